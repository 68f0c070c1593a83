"""States in words."""

from __future__ import annotations

import pytest

from pibot_mesh.cli.values import is_on, value_text
from pibot_mesh.protocol.messages import DeviceSpec, OutputValue

LAMP = DeviceSpec("lamp", "out", "light", dimmable=True)
TANK = DeviceSpec("tank", "in", "distance", unit="cm")
METER = DeviceSpec("meter", "in", "counter")


@pytest.mark.parametrize(
    ("value", "spec", "says", "on"),
    [
        (True, None, "ON", True),
        (False, LAMP, "OFF", False),
        (40.0, LAMP, "40 %", True),
        (0.0, LAMP, "0 %", False),
        (12.5, TANK, "12.5 cm", True),
        (7.0, METER, "7", True),
        (7.0, None, "7", True),
        ("#ff8800", None, "#ff8800", True),
        ("#000000", None, "#000000", False),
    ],
)
def test_a_state_is_shown_with_its_unit(value: OutputValue, spec: DeviceSpec | None, says: str, on: bool) -> None:
    """Percent for an output, what the card says for an input."""
    assert value_text(value, spec) == says
    assert is_on(value) is on
