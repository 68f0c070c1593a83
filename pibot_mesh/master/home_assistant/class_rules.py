"""Whether a device class, a unit and a state class go together in Home Assistant. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Final

from pibot_mesh.master.home_assistant.classes import OTHERS, SAME_UNITS, SENSOR, STATE_CLASSES, WITHOUT_NUMBER

DROPS_ENTITY: Final = "drops this entity"
WARNS: Final = "logs a warning"
IGNORES: Final = "ignores it"
SHOWS_NO_STATE: Final = "shows no state"


@dataclass(frozen=True, slots=True)
class Misfit:
    """What does not fit, in words that name what does, and what Home Assistant does with it."""

    text: str
    outcome: str


def class_flaw(platform: str, device_class: str | None, unit: str | None = None) -> str | None:
    """Why an entity of *platform* cannot have this class with this unit, naming what is accepted; None where it can.

    An empty unit counts as none. Without a class every unit is right.
    """
    found = class_misfit(platform, device_class, unit)
    return None if found is None else found.text


def class_misfit(platform: str, device_class: str | None, unit: str | None) -> Misfit | None:
    """As `class_flaw`, with what Home Assistant does."""
    if device_class is None:
        return None
    # Home Assistant itself reads classes in small letters.
    named = device_class.lower()
    known = classes_of(platform)
    if not known:
        return Misfit(f"device class {device_class!r}: the platform {platform} has none", IGNORES)
    if named not in known:
        return Misfit(
            f"there is no {platform} of device class {device_class!r}: {_nearest(named, known)}", DROPS_ENTITY
        )
    return _unit_misfit(platform, named, same_unit(unit)) if platform in ("sensor", "number") else None


def classes_of(platform: str) -> tuple[str, ...]:
    """The device classes of *platform*; none where it knows no classes."""
    if platform == "sensor":
        return (*SENSOR, *WITHOUT_NUMBER)
    return tuple(SENSOR) if platform == "number" else OTHERS.get(platform, ())


def same_unit(unit: str | None) -> str | None:
    """*unit* as Home Assistant reads it: None where it is blank, with the Greek letter where it has the micro sign."""
    return SAME_UNITS.get(unit, unit) if unit and unit.strip() else None


def state_class_of(device_class: str | None, unit: str | None) -> str | None:
    """The state class that gives a sensor its statistics; None where it can have none.

    A plain measurement where the class allows that, a meter that only goes up where it does not.
    """
    if device_class is None:
        return "measurement"
    found = SENSOR.get(device_class.lower())
    if found is None or (found.units is not None and same_unit(unit) not in found.units):
        return None
    return next(
        each
        for each in ("measurement", "measurement_angle", "total_increasing", "total")
        if each in found.state_classes
    )


def state_class_misfit(state_class: str, device_class: str | None, unit: str | None) -> Misfit | None:
    """Why a sensor of this class and unit cannot have *state_class*, and what becomes of it; None where it can."""
    if state_class.lower() not in STATE_CLASSES:
        return Misfit(f"there is no state class {state_class!r}: there are {_listed(STATE_CLASSES)}", DROPS_ENTITY)
    if state_class.lower() == "measurement_angle" and same_unit(unit) != "°":
        return Misfit(f"state class 'measurement_angle' goes with the unit °, not {_with(unit)}", DROPS_ENTITY)
    named = "" if device_class is None else device_class.lower()
    if named in WITHOUT_NUMBER:
        return Misfit(f"device class {named!r} is no number and has no state class", WARNS)
    if named not in SENSOR or state_class.lower() in SENSOR[named].state_classes:
        return None
    fitting = _listed(SENSOR[named].state_classes)
    return Misfit(f"device class {named!r} goes with state class {fitting}, not with {state_class!r}", WARNS)


def _unit_misfit(platform: str, device_class: str, unit: str | None) -> Misfit | None:
    if device_class in WITHOUT_NUMBER:
        text = f"device class {device_class!r} is no number and has no unit, and this one has {unit!r}"
        return None if unit is None else Misfit(text, SHOWS_NO_STATE)
    units = SENSOR[device_class].units
    if units is None or unit in units:
        return None
    outcome = DROPS_ENTITY if platform == "sensor" and unit is not None else WARNS
    return Misfit(f"device class {device_class!r} goes {_fitting(units)}, not {_with(unit)}", outcome)


def _fitting(units: tuple[str | None, ...]) -> str:
    named = [unit for unit in units if unit is not None]
    parts = [*([f"with {_listed(named)}"] if named else []), *(["without a unit"] if None in units else [])]
    return " or ".join(parts)


def _with(unit: str | None) -> str:
    return f"with {unit!r}" if same_unit(unit) else "without a unit"


def _nearest(named: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(named, known, 1, 0.6)
    return f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"


def _listed(words: list[str] | tuple[str, ...]) -> str:
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last
