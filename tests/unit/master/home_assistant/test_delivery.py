"""From one payload of a device to the next."""

from __future__ import annotations

import json
from collections.abc import Mapping

import pytest

from pibot_mesh.master.home_assistant.delivery import canonical, in_canonical_form, sendable, step
from pibot_mesh.master.home_assistant.model import Built, Flaw, Payload
from pibot_mesh.protocol.codec import JSON, MAX_PAYLOAD

TOPIC = "homeassistant/device/pibot/porch/config"
FAN = {"p": "switch", "name": "Fan"}
LAMP = {"p": "light", "name": "Lamp"}


def payload(**components: Mapping[str, JSON]) -> Payload:
    """A device with *components*."""
    return {"dev": {"ids": ["porch"]}, "o": {"name": "PiBot Mesh"}, "cmps": components}


def components(text: bytes) -> dict[str, JSON]:
    """Those of a payload that is to be sent."""
    found: dict[str, JSON] = json.loads(text)["cmps"]
    return found


def no_faults(topic: str, payload: Payload) -> list[Flaw]:
    """Home Assistant takes it all."""
    return []


def big(size: int, **more: JSON) -> dict[str, JSON]:
    """A component of about *size* bytes."""
    return {"p": "sensor", "name": "x" * size, **more}


def test_what_is_sound_is_sent_as_it_is() -> None:
    """With what the builder left out, for the log."""
    left_out = Flaw("in_door", "device class 'gate' is unknown")

    found = sendable(TOPIC, Built(payload(fan=FAN), (left_out,)), no_faults)

    assert (found.payload, found.flaws) == (canonical(payload(fan=FAN)), (left_out,))


def test_a_component_with_a_fault_is_left_out_and_named() -> None:
    """The others are there."""
    found = sendable(TOPIC, Built(payload(fan=FAN, lamp=LAMP)), lambda topic, _: [Flaw("fan", f"bad on {topic}")])

    assert found.payload == canonical(payload(lamp=LAMP))
    assert found.flaws == (Flaw("fan", f"is left out: bad on {TOPIC}"),)


def test_a_device_whose_root_is_wrong_is_not_sent() -> None:
    """Home Assistant would drop all of it."""
    found = sendable(TOPIC, Built(payload(fan=FAN)), lambda *_: [Flaw("dev", "unknown key 'colour'")])

    assert found.payload is None
    assert [str(flaw) for flaw in found.flaws] == [
        "dev: unknown key 'colour'",
        "payload: the device stays as it was: this is a bug, please report it with the line above",
    ]


def test_a_payload_without_components_is_left_to_the_check() -> None:
    """It says what is missing."""
    found = sendable(TOPIC, Built({"dev": {}}), lambda *_: [Flaw("cmps", "is missing")])

    assert found.payload is None
    assert found.flaws[0] == Flaw("cmps", "is missing")


def test_of_a_payload_that_is_too_large_the_diagnostics_stay_behind() -> None:
    """The devices come first; it is told how large it was."""
    health = big(40_000, ent_cat="diagnostic")

    found = sendable(TOPIC, Built(payload(fan=FAN, one=health, two=health)), no_faults)

    assert found.payload == canonical(payload(fan=FAN))
    [flaw] = found.flaws
    assert str(flaw).endswith(f"bytes, at most {MAX_PAYLOAD} fit: no diagnostics are shown")


def test_of_a_payload_that_is_still_too_large_the_last_components_stay_behind() -> None:
    """A master with hundreds of schedules can still be asked, and stopped."""
    many = payload(fan=FAN, one=big(30_000), two=big(30_000), three=big(30_000), four=FAN)

    found = sendable(TOPIC, Built(many), no_faults)

    assert found.payload == canonical(payload(fan=FAN, one=big(30_000), two=big(30_000)))
    assert str(found.flaws[-1]).endswith("bytes: the last 2 of 5 are not shown, from three on")


def test_a_payload_whose_first_component_is_too_large_is_not_sent() -> None:
    """Nothing of it could be."""
    found = sendable(TOPIC, Built(payload(one=big(MAX_PAYLOAD), fan=FAN)), no_faults)

    assert found.payload is None
    assert str(found.flaws[-1]).endswith("the last 2 of 2 are not shown, from one on")


@pytest.mark.parametrize(
    ("stands", "wanted"),
    [
        (b"", canonical(payload(fan=FAN))),
        (canonical(payload(fan=FAN)), b""),
        (canonical(payload(fan=FAN)), canonical(payload(fan=FAN))),
        (canonical(payload(fan=FAN)), canonical(payload(fan=FAN, lamp=LAMP))),
        (canonical(payload(fan={**FAN, "name": "Ventilator"})), canonical(payload(fan=FAN))),
        (canonical(payload(fan=FAN, lamp={"p": "light"})), canonical(payload(fan=FAN))),
    ],
)
def test_where_nothing_is_taken_away_one_step_is_enough(stands: bytes, wanted: bytes) -> None:
    """A new device, one that goes, one that stands, and a component that comes, changes or was removed before."""
    assert step(stands, wanted) == wanted


def test_a_component_that_went_away_is_removed_in_words() -> None:
    """Once, with the platform that it had, beside what is new; then it is not named any more."""
    wanted = canonical(payload(lamp=LAMP))

    first = step(canonical(payload(fan=FAN)), wanted)

    assert components(first) == {"fan": {"p": "switch"}, "lamp": LAMP}
    assert step(first, wanted) == wanted


def test_a_component_on_another_platform_is_removed_before_it_comes() -> None:
    """Else Home Assistant would show both."""
    wanted = canonical(payload(fan=LAMP))

    first = step(canonical(payload(fan=FAN)), wanted)

    assert components(first) == {"fan": {"p": "switch"}}
    assert step(first, wanted) == wanted


def test_removals_that_do_not_fit_beside_the_rest_go_first_alone() -> None:
    """What is not named stays as it is meanwhile."""
    gone = {f"gone{number}": FAN for number in range(50)}

    first = step(canonical(payload(**gone)), wanted := canonical(payload(one=big(MAX_PAYLOAD - 300))))

    assert components(first) == {key: {"p": "switch"} for key in gone}
    assert step(first, wanted) == wanted


@pytest.mark.parametrize(
    "stands",
    [
        b"nonsense",
        b"\xff",
        b"[]",
        b"{}",
        b'{"cmps":[]}',
        b'{"cmps":null}',
        b'{"cmps":{"a":1,"b":{"x":1,"y":2},"c":{"p":1,"y":2}}}',
        b'{"cmps":{"a":{"p":"\\ud800","y":2}}}',
        b'{"cmps":{"\\ud800":{"p":"switch","y":2}}}',
        pytest.param(b'{"cmps":' + b"[" * 50_000 + b"]" * 50_000 + b"}", id="too deep"),
        pytest.param(b'{"cmps":{"a":{"p":"switch","y":"' + b"x" * MAX_PAYLOAD + b'"}}}', id="too large"),
    ],
)
def test_what_somebody_else_left_there_is_written_over(stands: bytes) -> None:
    """Nothing in it could be removed."""
    wanted = canonical(payload(fan=FAN))

    assert step(in_canonical_form(stands), wanted) == wanted


def test_the_order_of_keys_and_blanks_make_no_difference() -> None:
    """Another process, or another version, may have written them otherwise."""
    assert in_canonical_form(b'{ "o": {"name": "\\u00fc"}, "dev": {} }') == canonical({"dev": {}, "o": {"name": "ü"}})
