"""States of outputs and inputs in a few words. Pure: no I/O."""

from __future__ import annotations

from pibot_mesh.protocol.messages import DeviceSpec, OutputValue

_BLACK = "#000000"


def value_text(value: OutputValue, spec: DeviceSpec | None = None) -> str:
    """``ON``, ``OFF``, ``#ff8800``, or a number with its unit: percent for an output, the card's for an input."""
    if isinstance(value, bool):
        return "ON" if value else "OFF"
    if isinstance(value, str):
        return value
    if spec is None:
        return f"{value:g}"
    unit = spec.unit or ("%" if spec.direction == "out" else "")
    return f"{value:g} {unit}".rstrip()


def is_on(value: OutputValue) -> bool:
    """Whether an output does anything: it is on, above 0, or of another color than black."""
    return value != _BLACK if isinstance(value, str) else value > 0
