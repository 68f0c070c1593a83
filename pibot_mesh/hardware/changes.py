"""What a board reports: what was set, what came in, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from pibot_mesh.protocol.messages import Cause, OutputValue


@dataclass(frozen=True, slots=True)
class OutputChanged:
    """An output was set; *value* is read back from its pin. Also reported where it had that value before."""

    device: str
    value: OutputValue
    cause: Cause


@dataclass(frozen=True, slots=True)
class InputChanged:
    """The state of an input, at the start and whenever it changes."""

    device: str
    value: OutputValue


@dataclass(frozen=True, slots=True)
class InputEvent:
    """Something happened at an input or a sensor: *event_type* stands in its card; *data* are numbers to it."""

    device: str
    event_type: str
    data: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class SensorRead:
    """A sensor was read: quantity → number, in the units of its card."""

    device: str
    values: Mapping[str, float]


Change: TypeAlias = OutputChanged | InputChanged | InputEvent | SensorRead
