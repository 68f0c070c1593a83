"""What the rules find in a payload for Home Assistant: as a real one of release 2026.11 was seen to do it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

import pytest
from hypothesis import given, settings, strategies as st

from pibot_mesh.master.home_assistant.keys import COMPONENT, DEVICE, ORIGIN, REQUIRED, ROOT
from pibot_mesh.master.home_assistant.rules import check, check_all, class_flaw, state_class_of

TOPIC = "homeassistant/device/pibot/kitchen/config"
DEVICE_DROPPED: Final = "Home Assistant drops the whole device"
ENTITY_DROPPED: Final = "Home Assistant drops this entity"
WARNED: Final = "Home Assistant logs a warning"

FIT: Final[Mapping[str, Mapping[str, Any]]] = {
    "binary_sensor": {"stat_t": "m/door", "dev_cla": "door"},
    "button": {"cmd_t": "m/cancel", "dev_cla": "restart"},
    "event": {"stat_t": "m/event", "evt_typ": ["pressed"], "dev_cla": "button"},
    "fan": {"cmd_t": "m/fan/set", "stat_t": "m/fan", "pct_cmd_t": "m/fan/set", "pct_stat_t": "m/fan"},
    "light": {"cmd_t": "m/lamp/set", "stat_t": "m/lamp", "bri_cmd_t": "m/lamp/set", "bri_stat_t": "m/lamp"},
    "notify": {"cmd_t": "m/request"},
    "number": {"cmd_t": "m/pump/set", "stat_t": "m/pump", "min": 0, "max": 100, "mode": "slider"},
    "select": {"cmd_t": "m/mode/set", "stat_t": "m/mode", "ops": ["a", "b"]},
    "sensor": {"stat_t": "m/air", "dev_cla": "temperature", "unit_of_meas": "°C", "stat_cla": "measurement"},
    "switch": {"cmd_t": "m/plug/set", "stat_t": "m/plug", "dev_cla": "outlet"},
    "text": {"cmd_t": "m/request", "stat_t": "m/state", "max": 255},
    "update": {"stat_t": "m/card", "l_ver_t": "m/info"},
}
"""A component of each platform of which there is nothing to say."""


def component(platform: str, **more: Any) -> dict[str, Any]:
    return {"p": platform, "uniq_id": f"u_{platform}", "name": platform.title(), **FIT.get(platform, {}), **more}


def payload(*components: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "dev": {"ids": ["pibot_kitchen"], "name": "Kitchen Pi"},
        "o": {"name": "pibot-mesh", "sw": "1.0", "url": "https://example.org/pibot"},
        "avty": [{"t": "m/status"}],
        "cmps": {f"c{number}": each for number, each in enumerate(components, 1)},
        **more,
    }


def found(value: Any, topic: str = TOPIC) -> list[str]:
    return [str(flaw) for flaw in check(topic, value)]


def without(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name != key}


# What is right


def test_a_payload_with_one_of_each_platform_has_no_flaw() -> None:
    """Nothing is said where nothing is wrong."""
    assert found(payload(*(component(platform) for platform in FIT))) == []


def test_long_keys_are_understood_as_short_ones() -> None:
    """Home Assistant writes the short ones out first, and so do we."""
    spelled: dict[str, Any] = {
        "device": {DEVICE["ids"]: ["pibot_kitchen"], "name": "Kitchen Pi"},
        "origin": {"name": "pibot-mesh", ORIGIN["url"]: "https://example.org"},
        "components": {
            platform: {COMPONENT.get(key, key): value for key, value in component(platform).items()} for platform in FIT
        },
    }
    assert found(spelled) == []

    spelled["components"]["sensor"]["unit_of_measurement"] = "%"

    assert len(found(spelled)) == 1


def test_a_short_key_goes_before_the_long_one() -> None:
    """As Home Assistant replaces the one with the other."""
    sensor = component("sensor", unit_of_measurement="%")
    assert found(payload(sensor)) == []
    assert len(found(payload({**sensor, "unit_of_meas": "%", "unit_of_measurement": "°C"}))) == 1


@pytest.mark.parametrize(
    "harmless",
    [
        component("sensor", newer_option=1),
        component("sensor", dev_cla=None, stat_cla=None, unit_of_meas=None),
        component("sensor", dev_cla="Temperature"),
        component("sensor", dev_cla="pm25", unit_of_meas="\u00b5g/m³"),
        component("sensor", dev_cla="power_factor", unit_of_meas=""),
        component("sensor", dev_cla=None, stat_cla=None, unit_of_meas="boxes"),
        component("sensor", dev_cla="enum", ops=["a"], stat_cla=None, unit_of_meas=None),
        component("sensor", dev_cla="monetary", unit_of_meas="EUR", stat_cla="total"),
        component("sensor", dev_cla="wind_direction", unit_of_meas="°", stat_cla="measurement_angle"),
        component("sensor", dev_cla="timestamp", unit_of_meas=None, stat_cla=None),
        without(component("sensor"), "name"),
        component("switch", name=None, ent_cat="config", qos="1", ic="mdi:fan"),
        component("switch", def_ent_id="switch.kitchen_fan"),
        component("light", white_command_topic="m/lamp/set", on_cmd_type="brightness"),
        component("cover"),
        component("switch", unit_of_meas=[], expire_after="soon", percentage_state_topic="m/+x"),
        component("switch", msg_exp_int={"hours": 1}),
        component("switch", avty=[{"t": "m/status", "newer_option": 1}]),
        {"p": "sensor"},
        {"p": "tag", "topic": "m/tag"},
        component("sensor", **{"~": "m/air", "stat_t": "~/x"}),
    ],
)
def test_what_home_assistant_takes_is_no_flaw(harmless: dict[str, Any]) -> None:
    """Newer options, other platforms, a removal, null where it means nothing: it makes the entity without a word."""
    assert found(payload(harmless)) == []


# What drops the whole device


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ({"wrong": 1}, "wrong", "unknown key at the root"),
        ({"uniq_id": "x"}, "uniq_id", "unknown key at the root"),
        ({"~": "m"}, "~", "'~' is for components"),
        ({"dev": None}, "dev", "is missing"),
        ({"dev": {"name": "Pi"}}, "dev", "has no ids"),
        ({"dev": {"ids": [], "name": "Pi"}}, "dev", "has no ids"),
        ({"dev": {"ids": [None], "name": "Pi"}}, "dev", "ids are not all texts"),
        ({"dev": {"ids": {"a": 1}, "name": "Pi"}}, "dev", "ids are not all texts"),
        ({"dev": {"cns": ["mac"], "name": "Pi"}}, "dev", "its connections are no pairs"),
        ({"dev": {"cns": "mac", "name": "Pi"}}, "dev", "its connections are no pairs"),
        ({"dev": {"ids": "k", "name": None}}, "dev", "name is not a text"),
        ({"dev": {"ids": "k", "name": "Pi", "model_name": "x"}}, "dev", "unknown key 'model_name'"),
        ({"dev": {"ids": "k", "name": "Pi", "cu": "nope"}}, "dev", "configuration_url is 'nope'"),
        ({"dev": {"ids": "k", "name": "Pi", "cu": "http://[x"}}, "dev", "configuration_url is 'http://[x'"),
        ({"dev": {"ids": "k", "name": "Pi", "cu": 7}}, "dev", "configuration_url is 7"),
        ({"o": None}, "o", "is missing"),
        ({"o": {"sw": "1"}}, "o", "has no name"),
        ({"o": {"name": "x", "by": "y"}}, "o", "unknown key 'by'"),
        ({"o": {"name": "x", "url": "ftp://example.org"}}, "o", "support_url is 'ftp://example.org'"),
        ({"cmps": []}, "cmps", "is no JSON object"),
        ({"cdevs": {}}, "child_devices", "it is no list"),
        ({"cmps": {"a": "sensor"}}, "a", "is no JSON object"),
        ({"cmps": {"a": {"uniq_id": "a"}}}, "a", "has no platform"),
        ({"cmps": {"a": {"p": "lamp", "uniq_id": "a"}}}, "a", "there is no platform 'lamp'"),
        ({"cmps": {"a": {"p": ["sensor"], "uniq_id": "a"}}}, "a", "there is no platform ['sensor']"),
        ({"avty_t": "m/status"}, "root", "both 'availability' and 'availability_topic'"),
        ({"avty_mode": "some"}, "root", "availability_mode is 'some'"),
        ({"avty": ["m/status"]}, "root", "availability 1 is no object"),
        ({"avty": {"topic": "m/#/x"}}, "root", "availability 1 topic is 'm/#/x'"),
        ({"avty": [{"t": "m"}, {"pl_avail": "online"}]}, "root", "availability 2 has no topic"),
        ({"avty": [{"t": "m", "qos": 1}]}, "root", "availability 1 has the unknown key 'qos'"),
        ({"qos": 3}, "root", "qos is 3"),
        ({"qos": "x"}, "root", "qos is 'x'"),
        ({"stat_t": ""}, "root", "state_topic is empty"),
        ({"cmd_t": "m/+"}, "root", "command_topic is 'm/+'"),
    ],
)
def test_what_drops_the_whole_device(change: dict[str, Any], where: str, what: str) -> None:
    """One mistake outside of the components, and nothing of the node is there."""
    [flaw] = [each for each in check(TOPIC, payload(**change)) if DEVICE_DROPPED in each.text]

    assert flaw.where == where
    assert what in flaw.text


@pytest.mark.parametrize(("uniq_id", "what"), [(None, "unique_id is not a text"), ([], "unique_id is not a text")])
def test_an_id_that_is_no_text_drops_the_device(uniq_id: Any, what: str) -> None:
    """As it does without one."""
    [flaw] = found(payload(component("sensor", uniq_id=uniq_id)))
    [missing] = found(payload(without(component("sensor"), "uniq_id")))

    assert flaw == f"c1: {DEVICE_DROPPED}: {what}"
    assert missing == f"c1: {DEVICE_DROPPED}: it has no unique_id: give it one"


def test_without_components_there_is_no_device() -> None:
    """Unless it has devices below it."""
    bare = without(payload(), "cmps")

    assert found(bare) == [f"cmps: {DEVICE_DROPPED}: there are no components"]
    assert found({**bare, "child_devices": []}) == []


@pytest.mark.parametrize("value", [None, [], "x", 5, True])
def test_what_is_no_object_is_no_device(value: Any) -> None:
    """Whatever else it is."""
    assert found(value) == [f"payload: {DEVICE_DROPPED}: it is no JSON object"]


def test_a_payload_that_is_too_large_is_not_sent() -> None:
    """64 KiB are as much as the mesh and its broker pass on."""
    [flaw] = found(payload(component("sensor", name="x" * 70_000)))

    assert "payload: the broker does not get it" in flaw
    assert "65536" in flaw


@pytest.mark.parametrize(
    "topic",
    ["homeassistant/device/pibot/kitchen", "homeassistant/device/pibot/küche/config", "homeassistant/sensor/x/config"],
)
def test_a_topic_that_home_assistant_does_not_read_is_named(topic: str) -> None:
    """Its ids are of letters, digits, '_' and '-'."""
    [flaw] = found(payload(component("sensor")), topic)

    assert flaw.startswith(f"topic: Home Assistant does not see this device: {topic!r}")


def test_a_device_without_a_name_gets_the_broker_s() -> None:
    """That is seen, and nobody knows why."""
    [flaw] = found(payload(dev={"ids": ["k"]}))

    assert flaw == "dev: Home Assistant shows it under another name: it has none: give it one"


# What drops one entity


@pytest.mark.parametrize(("platform", "key"), [(name, key) for name, keys in REQUIRED.items() for key in keys])
def test_a_component_without_what_its_platform_needs_is_dropped(platform: str, key: str) -> None:
    """Its topic, its options or its types; the root may give it the topic."""
    short = next(short for short, long in COMPONENT.items() if long == key)
    lacking = without(component(platform), short)

    assert f"c1: {ENTITY_DROPPED}: {key} is missing, which every {platform} needs" in found(payload(lacking))
    if key in ROOT.values():
        assert found(payload(lacking, **{key: "m/all"})) == []


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (component("sensor", unit_of_meas="%"), "'temperature' goes with °C, °F or K, not with '%'"),
        (component("sensor", dev_cla="humidity"), "'humidity' goes with %, not with '°C'"),
        (component("sensor", dev_cla="ph", unit_of_meas="pH"), "'ph' goes without a unit, not with 'pH'"),
        (component("sensor", dev_cla="power_factor"), "goes with % or without a unit, not with '°C'"),
        (
            component("sensor", dev_cla="temprature"),
            "no sensor of device class 'temprature': did you mean 'temperature'?",
        ),
        (component("switch", dev_cla="fan"), "no switch of device class 'fan': there are outlet, switch"),
        (component("number", dev_cla="enum"), "no number of device class 'enum'"),
        (component("binary_sensor", dev_cla="garagedoor"), "did you mean 'garage_door'?"),
        (component("button", dev_cla=["restart"]), "device_class is not a text"),
        (component("sensor", unit_of_meas={}), "unit_of_measurement is not a text"),
        (component("sensor", stat_cla=[]), "state_class is not a text"),
        (component("sensor", stat_cla="average"), "there is no state class 'average'"),
        (component("sensor", dev_cla=None, stat_cla="measurement_angle"), "goes with the unit °, not with '°C'"),
        (
            component("sensor", dev_cla=None, unit_of_meas=None, stat_cla="measurement_angle"),
            "goes with the unit °, not without a unit",
        ),
        (component("sensor", dev_cla="enum", ops=[], stat_cla=None, unit_of_meas=None), "options is empty"),
        (
            component("sensor", dev_cla=None, ops=["a"], stat_cla=None, unit_of_meas=None),
            "options are for device class",
        ),
        (
            component("sensor", dev_cla="enum", ops=["a"], stat_cla=None, unit_of_meas="x"),
            "options go with no state_class",
        ),
        (component("sensor", ent_cat="config"), "only 'diagnostic' fits"),
        (component("binary_sensor", ent_cat="config"), "only 'diagnostic' fits"),
        (component("switch", ent_cat="setup"), "entity_category is 'setup'"),
        (component("switch", ent_cat=None), "entity_category is None"),
        (component("switch", ic="fan"), "icon is 'fan'"),
        (component("switch", name=["Fan"]), "name is not a text"),
        (component("switch", def_ent_id=[]), "default_entity_id is not a text"),
        (component("switch", cmd_t="m/+/set"), "command_topic is 'm/+/set'"),
        (component("switch", cmd_t=None), "command_topic is not a text"),
        (component("switch", stat_t="m/x+"), "'+' stands for a whole level"),
        (component("switch", stat_t="m/x#"), "'#' stands for all levels at the end"),
        (component("switch", stat_t="#/x"), "'#' stands for all levels at the end"),
        (component("switch", stat_t="m/\nx"), "no control characters"),
        (component("switch", pl_avail=None), "payload_available is not a text"),
        (component("switch", msg_exp_int="1 h"), "message_expiry_interval is '1 h'"),
        (component("switch", msg_exp_int=-1), "message_expiry_interval is -1"),
        (component("switch", qos=5), "qos is 5"),
        (component("switch", avty_t="m/status"), "the root has the other"),
        (component("switch", avty=[{"t": "m"}], avty_t="m"), "both 'availability' and 'availability_topic'"),
        (component("number", min=10, max=1), "min 10 and max 1 of a number"),
        (component("number", min="low"), "min 'low' and max 100 of a number"),
        (component("number", step=0), "step is 0"),
        (component("number", step=[]), "step is []"),
        (component("number", mode="wheel"), "mode is 'wheel'"),
        (component("text", max=256), "min 0 and max 256 of a text"),
        (component("text", min=-1), "min -1 and max 255 of a text"),
        (component("text", min=9, max=2), "min 9 and max 2 of a text"),
        (component("text", mode="long"), "mode is 'long'"),
        (component("light", schema="xml"), "schema is 'xml'"),
        (component("light", on_cmd_type="soon"), "on_command_type is 'soon'"),
        (component("light", bri_scl=0), "brightness_scale is 0"),
        (component("fan", spd_rng_min=0), "speed_range_min and speed_range_max"),
        (component("fan", spd_rng_min=5, spd_rng_max=5), "speed_range_min and speed_range_max"),
        (component("sensor", sug_dsp_prc=-1), "suggested_display_precision is -1"),
        (component("sensor", exp_aft="soon"), "expire_after is 'soon'"),
        (component("sensor", exp_aft=10**400), "expire_after is 1000"),
    ],
)
def test_what_drops_an_entity(wrong: dict[str, Any], what: str) -> None:
    """The rest of the device is there, so that nobody looks for it."""
    flaws = [each for each in check(TOPIC, payload(wrong)) if ENTITY_DROPPED in each.text]

    assert [flaw.where for flaw in flaws] == ["c1"]
    assert what in flaws[0].text
    assert DEVICE_DROPPED not in str(flaws)


@pytest.mark.parametrize(
    ("wrong", "what"),
    [
        (component("sensor", unit_of_meas=None), "'temperature' goes with °C, °F or K, not without a unit"),
        (component("number", dev_cla="temperature", unit_of_meas="%"), "not with '%'"),
        (component("sensor", dev_cla="energy", unit_of_meas="kWh"), "goes with state class total or total_increasing"),
        (component("sensor", dev_cla="timestamp", unit_of_meas=None), "is no number and has no state class"),
        (component("sensor", def_ent_id="switch.air"), "and this is a sensor: write sensor.air"),
    ],
)
def test_what_only_fills_the_log(wrong: dict[str, Any], what: str) -> None:
    """The entity is there."""
    [flaw] = found(payload(wrong))

    assert flaw.startswith(f"c1: {WARNED}: ")
    assert what in flaw


@pytest.mark.parametrize(
    ("wrong", "outcome"),
    [
        (component("light", dev_cla="lamp"), "ignores it"),
        (component("switch", object_id="fan"), "ignores it"),
        (component("switch", obj_id="fan"), "ignores it"),
        (component("switch", def_ent_id="switch.Kitchen-Fan"), "makes another id of it"),
        (component("switch", def_ent_id="fan"), "makes another id of it"),
        (component("switch", name="Kitchen Pi fan"), "shows 'Kitchen Pi Kitchen Pi fan'"),
        (component("switch", name="kitchen pi"), "shows 'Kitchen Pi kitchen pi'"),
        (without(component("switch", dev_cla=None), "name"), "calls it MQTT switch"),
        (without(without(component("switch"), "name"), "dev_cla"), "calls it MQTT switch"),
        (component("event", evt_typ=[]), "takes no event of it"),
        (component("select", ops=[]), "shows nothing to choose from"),
        (component("number", min=5, max=5), "has only one value to choose"),
        (component("sensor", dev_cla="enum", stat_cla=None, unit_of_meas=None), "takes any text as its state"),
        (component("sensor", dev_cla="timestamp", stat_cla=None), "shows no state"),
        (without(component("light"), "bri_stat_t"), "guesses it"),
        (without(component("fan"), "pct_stat_t"), "guesses it"),
        *((without(component(name), "stat_t"), "guesses its state") for name in ("switch", "light", "fan", "number")),
    ],
)
def test_what_nobody_would_be_told(wrong: dict[str, Any], outcome: str) -> None:
    """Home Assistant makes something else of it, without a word."""
    [flaw] = found(payload(wrong))

    assert flaw.startswith(f"c1: Home Assistant {outcome}: ")


# What two of them have in common


def test_an_id_that_two_entities_of_a_platform_have_drops_the_second() -> None:
    """On two platforms it is none of Home Assistant's business."""
    fan, lamp = component("switch", uniq_id="x"), component("switch", uniq_id="x", name="Lamp")

    assert found(payload(fan, lamp)) == [f"c2: {ENTITY_DROPPED}: c1 has the same unique id 'x': give it another"]
    assert found(payload(fan, component("sensor", uniq_id="x"))) == []


def test_a_name_that_two_entities_of_a_platform_have_is_told_by_a_number() -> None:
    """Large or small letters make no difference to who reads it."""
    fan, other = component("switch", uniq_id="a", name="Fan"), component("switch", uniq_id="b", name="fan")

    [flaw] = found(payload(fan, other))

    assert flaw == "c2: Home Assistant tells it by a number: c1 has the same name 'fan': give it another"


def test_an_id_that_two_devices_have_drops_the_entity_of_the_second() -> None:
    """It is named where it is dropped, with the topic of the other."""
    first, second, third = (f"homeassistant/device/pibot/{name}/config" for name in ("a", "b", "c"))
    mine, others = payload(component("switch")), payload(component("sensor"), component("switch"))

    flaws = check_all({first: mine, second: others, third: None})  # type: ignore[dict-item]  # as it may stand there

    assert flaws[first] == []
    assert [str(flaw) for flaw in flaws[second]] == [
        f"c2: {ENTITY_DROPPED}: {first} has the same unique id 'u_switch': give it another"
    ]
    assert [flaw.where for flaw in flaws[third]] == ["payload"]


# Whatever comes

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=8,
)
KEYS = st.sampled_from(sorted({*COMPONENT, *COMPONENT.values(), "name", "min", "max", "step", "mode", "schema"}))


@settings(max_examples=200)
@given(JSON_VALUES, JSON_VALUES, st.dictionaries(KEYS, JSON_VALUES), st.sampled_from(sorted(FIT)))
def test_nothing_makes_it_raise(anything: Any, other: Any, changes: dict[str, Any], platform: str) -> None:
    """Whatever JSON stands at the broker."""
    odd = {**payload({**component(platform), **changes}), "dev": anything, "o": other}

    assert isinstance(found(anything), list)
    assert isinstance(found(odd), list)
    assert isinstance(check_all({TOPIC: odd, "x": payload(cmps=anything, avty=other)}), dict)


def test_what_cannot_be_nested_so_deep_is_not_looked_into() -> None:
    """It cannot be sent either."""
    deep: Any = json.loads("[" * 200 + "]" * 200)

    [flaw] = found(payload(component("switch", mode=deep)))

    assert flaw.startswith("payload: the broker does not get it")


# For whoever builds payloads


@pytest.mark.parametrize(
    ("platform", "device_class", "unit", "words"),
    [
        ("sensor", "temperature", "°F", None),
        ("sensor", None, "whatever", None),
        ("switch", "outlet", None, None),
        ("number", "temperature", "%", "device class 'temperature' goes with °C, °F or K, not with '%'"),
        ("light", "lamp", None, "device class 'lamp': the platform light has none"),
        ("update", "software", None, "there is no update of device class 'software': did you mean 'firmware'?"),
        ("sensor", "date", "d", "device class 'date' is no number and has no unit, and this one has 'd'"),
    ],
)
def test_why_a_class_does_not_fit_is_said(platform: str, device_class: str, unit: str, words: str | None) -> None:
    """With what would."""
    assert class_flaw(platform, device_class, unit) == words


@pytest.mark.parametrize(
    ("device_class", "unit", "state_class"),
    [
        (None, None, "measurement"),
        ("temperature", "°C", "measurement"),
        ("temperature", "%", None),
        ("wind_direction", "°", "measurement_angle"),
        ("energy", "kWh", "total_increasing"),
        ("monetary", "EUR", "total"),
        ("ph", "", "measurement"),
        ("timestamp", None, None),
        ("nonsense", None, None),
    ],
)
def test_the_state_class_that_gives_statistics(device_class: str | None, unit: str | None, state_class: str) -> None:
    """And none where there are none to have."""
    assert state_class_of(device_class, unit) == state_class
    if state_class:
        right = component("sensor", dev_cla=device_class, unit_of_meas=unit, stat_cla=state_class)
        assert found(payload(right)) == []
