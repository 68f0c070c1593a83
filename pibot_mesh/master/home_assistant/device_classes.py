"""Which device class and statistics an entity gets: those that its device was given, where Home Assistant has them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pibot_mesh.master.home_assistant.class_rules import state_class_misfit
from pibot_mesh.master.home_assistant.classes import WITHOUT_NUMBER
from pibot_mesh.master.home_assistant.model import Flaw
from pibot_mesh.master.home_assistant.rules import class_flaw, state_class_of
from pibot_mesh.protocol.codec import JSON


@dataclass(frozen=True, slots=True)
class Classed:
    """The fields that say what sort of thing an entity is, and what was left out so that it appears at all."""

    fields: Mapping[str, JSON] = field(default_factory=dict)
    flaws: tuple[Flaw, ...] = ()


def classed(where: str, platform: str, given: str | None, *, usual: str | None = None, unit: str = "") -> Classed:
    """The class *given*, or the *usual* one where none or a wrong one was."""
    fields: dict[str, JSON] = {} if usual is None else {"dev_cla": usual}
    if given is None:
        return Classed(fields)
    flaw = class_flaw(platform, given, unit)
    if flaw is None and platform == "sensor" and given.lower() in WITHOUT_NUMBER:
        flaw = f"device class {given!r} is for what is no number, and this is one"
    if flaw is not None:
        return Classed(fields, (Flaw(where, f"its device class is left out: {flaw}"),))
    return Classed({"dev_cla": given.lower()})


def measured(
    where: str, given: str | None, *, unit: str = "", usual: str | None = None, is_meter: bool = False
) -> Classed:
    """The class, the unit and the statistics of a number. A meter only goes up, or begins again."""
    found = classed(where, "sensor", given, usual=usual, unit=unit)
    fields = dict(found.fields)
    device_class = None if "dev_cla" not in fields else str(fields["dev_cla"])
    if unit.strip():
        fields["unit_of_meas"] = unit
    is_fit = is_meter and state_class_misfit("total_increasing", device_class, unit) is None
    # A class that goes with its unit, and is a number's, always has statistics.
    fields["stat_cla"] = "total_increasing" if is_fit else state_class_of(device_class, unit)
    return Classed(fields, found.flaws)
