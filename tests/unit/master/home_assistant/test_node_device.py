"""A node as a device of Home Assistant."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.hardware.kinds import KINDS, spec
from pibot_mesh.master.home_assistant.classes import OTHERS, SENSOR, WITHOUT_NUMBER
from pibot_mesh.master.home_assistant.model import Built
from pibot_mesh.master.home_assistant.naming import Naming
from pibot_mesh.master.home_assistant.node_device import node_payload
from pibot_mesh.master.home_assistant.rules import check
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, Measure, NodeCard, ReflexSpec, ToolSpec
from pibot_mesh.protocol.topics import Topics

FAN = DeviceSpec("fan", "out", "fan", name="fan", dimmable=True)
LAMP = DeviceSpec("lamp", "out", "lamp", name="lamp", dimmable=True)
BELL = DeviceSpec("bell", "in", "button", name="bell", events=("pressed", "released", "held"))
CLIMATE = DeviceSpec(
    "climate",
    "sensor",
    "bme280",
    name="climate",
    measures={"temperature": Measure("°C", "temperature"), "air_quality": Measure("", None)},
)

IDS = st.from_regex(r"[a-c0-9][ab_-]{0,4}", fullmatch=True)
WORDS = st.text(st.sampled_from("kK (ab)-_.ü'\"{}%"), max_size=12) | st.sampled_from(["Kitchen", "kitchen fan", "Fan"])
UNITS = st.sampled_from(["", " ", "°C", "%", "kWh", "cm", "µV", "steps", "hPa"])
CLASSES = st.none() | st.sampled_from(sorted({*SENSOR, *WITHOUT_NUMBER, *sum(OTHERS.values(), ()), "no_class", "Door"}))
MEASURES = st.from_regex(r"[ab][ab_]{0,3}", fullmatch=True) | st.text(st.sampled_from("aä' {}\"\\"), max_size=4)
EVENTS = st.lists(st.sampled_from(["pressed", "held", "motion", "opened", "ring", "too hot's"]), max_size=3).map(tuple)
DEVICES = st.builds(
    DeviceSpec,
    id=IDS,
    direction=st.sampled_from(["in", "out", "sensor"]),
    kind=st.sampled_from([*KINDS, "thing_of_tomorrow"]),
    name=WORDS,
    room=WORDS,
    dimmable=st.booleans(),
    measures=st.dictionaries(MEASURES, st.builds(Measure, unit=UNITS, device_class=CLASSES), max_size=3),
    color=st.booleans(),
    label=WORDS,
    unit=UNITS,
    device_class=CLASSES,
    events=EVENTS,
)
CARDS = st.builds(
    NodeCard,
    node=st.sampled_from(["kitchen", "k", "pi-2"]),
    boot=st.just("b"),
    version=st.just("1.2.0"),
    devices=st.lists(DEVICES, max_size=6, unique_by=lambda device: device.id).map(tuple),
    tools=st.sampled_from([(), (ToolSpec("timer_set"),)]),
    reflexes=st.lists(
        st.builds(ReflexSpec, IDS, WORDS.filter(bool)), max_size=3, unique_by=lambda reflex: reflex.id
    ).map(tuple),
    start_reason=st.sampled_from(["", "crash", "unheard-of"]),
)


def built(*devices: DeviceSpec, **card: object) -> Built:
    """The payload of the node ``kitchen`` with these *devices*, and what else its *card* has."""
    shown = NodeCard(**{"node": "kitchen", "boot": "b", "version": "1.2.0", "devices": devices, **card})  # type: ignore[arg-type]
    return node_payload(shown, Topics(), Naming(), version="1.3.0")


def components(result: Built) -> dict[str, dict[str, JSON]]:
    """The components of *result*, by their keys."""
    found = result.payload["cmps"]
    assert isinstance(found, dict)
    return {key: each for key, each in found.items() if isinstance(each, dict)}


def names(result: Built, *keys: str) -> list[JSON]:
    """The names of these components."""
    return [components(result)[key]["name"] for key in keys]


def every_kind() -> tuple[DeviceSpec, ...]:
    """One device of every kind, as a node shows it."""
    return tuple(spec(DeviceSettings(kind.replace("_", "-"), kind)) for kind in KINDS)


def test_the_device_is_the_node() -> None:
    """It stands behind the master, in the room that all of its devices are in."""
    in_rooms = [DeviceSpec(f"d{number}", "out", "relay", room=room) for number, room in enumerate(["bath", "", "Bath"])]

    assert built(*in_rooms).payload["dev"] == {
        "ids": ["pibot_kitchen"],
        "name": "Kitchen",
        "mf": "PiBot Mesh",
        "mdl": "Node",
        "sw": "1.2.0",
        "via_device": "pibot_master",
        "sa": "Bath",
    }
    assert built().payload["o"] == {"name": "PiBot Mesh", "sw": "1.3.0"}


def test_a_node_in_several_rooms_is_in_none() -> None:
    """Its entities say the room instead, unless their names do."""
    result = built(
        DeviceSpec("a", "out", "relay", name="fan", room="bath"),
        DeviceSpec("b", "out", "relay", label="Bath mirror", room="bath"),
        DeviceSpec("c", "out", "relay", label="TV", room="living room"),
        DeviceSpec("d", "out", "relay", name="heater"),
        simulated=True,
    )
    device = result.payload["dev"]
    assert isinstance(device, dict)

    assert "sa" not in device
    assert device["mdl"] == "Simulated node"
    assert names(result, "out_a", "out_b", "out_c", "out_d") == ["Bath fan", "Bath mirror", "Living room TV", "Heater"]


def test_what_works_without_the_master_does_not_need_it() -> None:
    """Everything goes with the node's own status; whether the node is old, only the master knows."""
    result = built(FAN, BELL, CLIMATE, start_reason="crash")
    own = {key: each["avty"] for key, each in components(result).items() if "avty" in each}

    assert result.payload["avty"] == [{"t": "pibot/node/kitchen/status"}]
    assert own == {"online": [], "update": [{"t": "pibot/node/kitchen/status"}, {"t": "pibot/master/status"}]}
    assert components(result)["update"]["avty_mode"] == "all"


@pytest.mark.parametrize(
    ("device", "platform"),
    [
        *((DeviceSpec("d", "out", kind), "switch") for kind in ("switch", "relay", "output", "buzzer")),
        *((DeviceSpec("d", "out", kind, dimmable=True), "light") for kind in ("light", "lamp", "led")),
        (DeviceSpec("d", "out", "rgb_led", color=True), "light"),
        (DeviceSpec("d", "out", "fan", dimmable=True), "fan"),
        *((DeviceSpec("d", "out", kind, dimmable=True), "number") for kind in ("motor", "pwm", "servo", "new")),
        (DeviceSpec("d", "out", "new"), "switch"),
        (DeviceSpec("d", "out", "new", color=True), "light"),
        *((DeviceSpec("d", "in", kind), "binary_sensor") for kind in ("button", "motion", "contact", "input", "new")),
        *((DeviceSpec("d", "in", kind), "sensor") for kind in ("counter", "encoder", "distance")),
        (DeviceSpec("d", "in", "new", unit="bar"), "sensor"),
    ],
)
def test_a_device_becomes_what_it_is(device: DeviceSpec, platform: str) -> None:
    """By its kind, or by what it can do where the kind is of a later version."""
    assert components(built(device))[f"{device.direction}_d"]["p"] == platform


def test_an_output_is_never_optimistic_nor_kept() -> None:
    """Each has the topic of its state, and its orders are not retained."""
    for key, each in components(built(*every_kind())).items():
        if key.startswith("out_"):
            device = key.removeprefix("out_")
            assert each["stat_t"] == f"pibot/node/kitchen/out/{device}"
            assert each["cmd_t"] == f"pibot/node/kitchen/out/{device}/set"
            assert not {"opt", "ret"} & each.keys()


def test_a_light_is_turned_on_by_its_brightness() -> None:
    """So it comes back as it was, with one message."""
    lamp = components(built(LAMP))["out_lamp"]

    assert (lamp["on_cmd_type"], lamp["bri_scl"]) == ("brightness", 100)
    assert lamp["bri_cmd_t"] == lamp["cmd_t"]


@pytest.mark.parametrize(
    ("device", "key", "device_class"),
    [
        (DeviceSpec("d", "out", "relay", device_class="outlet"), "out_d", "outlet"),
        (DeviceSpec("d", "in", "motion"), "in_d", "motion"),
        (DeviceSpec("d", "in", "contact"), "in_d", "opening"),
        (DeviceSpec("d", "in", "contact", device_class="Garage_Door"), "in_d", "garage_door"),
        (DeviceSpec("d", "in", "distance", unit="cm"), "in_d", "distance"),
        (DeviceSpec("d", "in", "distance", unit="paces"), "in_d", None),
        (DeviceSpec("d", "in", "counter", unit="kWh", device_class="energy"), "in_d", "energy"),
        (DeviceSpec("d", "in", "button", events=("held",)), "event_d", "button"),
        (DeviceSpec("d", "in", "encoder", events=("turned",)), "event_d", None),
    ],
)
def test_a_device_class_is_the_given_or_the_usual_one(device: DeviceSpec, key: str, device_class: str | None) -> None:
    """Where Home Assistant has it."""
    result = built(device)

    assert components(result)[key].get("dev_cla") == device_class
    assert result.flaws == ()


@pytest.mark.parametrize(
    ("device", "key", "words"),
    [
        (DeviceSpec("d", "out", "relay", device_class="garage_door"), "out_d", "outlet"),
        (DeviceSpec("d", "out", "lamp", dimmable=True, device_class="outlet"), "out_d", "light"),
        (DeviceSpec("d", "in", "contact", device_class="dor"), "in_d", "door"),
        (DeviceSpec("d", "in", "counter", unit="kWh", device_class="gas"), "in_d", "m³"),
        (DeviceSpec("d", "in", "counter", device_class="timestamp"), "in_d", "no number"),
        (DeviceSpec("d", "sensor", "x", measures={"m": Measure("%", "temperature")}), "sensor_d_m", "°C"),
    ],
)
def test_a_class_that_does_not_fit_is_left_out_and_named(device: DeviceSpec, key: str, words: str) -> None:
    """The entity still appears, and the flaw says what would be accepted."""
    result = built(device)
    [flaw] = result.flaws

    assert flaw.where == key
    assert words in flaw.text
    assert components(result)[key].get("dev_cla") in (None, "opening")


def test_a_meter_only_goes_up() -> None:
    """Its sum has statistics, unless its class has others."""
    meters = [
        DeviceSpec("a", "in", "counter"),
        DeviceSpec("b", "in", "counter", unit="W", device_class="power"),
        DeviceSpec("c", "in", "encoder", unit="steps"),
    ]
    result = components(built(*meters))

    assert [result[f"in_{device}"]["stat_cla"] for device in "abc"] == [
        "total_increasing",
        "measurement",
        "measurement",
    ]


def test_a_sensor_has_an_entity_for_each_measure() -> None:
    """Named after the measure alone where the node has one sensor."""
    result = built(CLIMATE)
    temperature = components(result)["sensor_climate_temperature"]

    assert names(result, "sensor_climate_temperature", "sensor_climate_air_quality") == ["Temperature", "Air quality"]
    assert temperature["unit_of_meas"] == "°C"
    assert temperature["stat_cla"] == "measurement"
    assert temperature["sug_dsp_prc"] == 1
    assert temperature["def_ent_id"] == "sensor.kitchen_climate_temperature"


def test_several_sensors_are_told_apart() -> None:
    """By their labels; one that is called as what it measures is not said twice."""
    result = built(
        DeviceSpec("a", "sensor", "x", label="Balcony climate", measures={"temperature": Measure()}),
        DeviceSpec("b", "sensor", "x", label="Water temperature", measures={"temperature": Measure(), "": Measure()}),
    )

    assert names(result, "sensor_a_temperature", "sensor_b_temperature") == [
        "Balcony climate temperature",
        "Water temperature",
    ]


def test_keys_of_odd_ids_never_collide() -> None:
    """A device ``a`` that measures ``b_c``, one ``a_b`` that measures ``c``, and measures that are alike."""
    odd = [
        DeviceSpec("a", "sensor", "x", measures={"b_c": Measure(), "B c": Measure(), "b'c": Measure()}),
        DeviceSpec("a_b", "sensor", "x", measures={"c": Measure()}),
        DeviceSpec("a-b", "out", "relay"),
        DeviceSpec("timer", "in", "button", events=("held",)),
    ]
    result = components(built(*odd, tools=(ToolSpec("timer_set"),)))
    entity_ids = [each["def_ent_id"] for each in result.values()]

    assert {"sensor_a_b_c", "sensor_a__b_c", "out_a-b", "event_timer", "timer_finished"} <= result.keys()
    assert sum(key.startswith("sensor_") for key in result) == 4
    assert len(set(entity_ids)) == len(entity_ids)


@pytest.mark.parametrize(
    ("events", "has_event"),
    [((), False), (("motion", "motion_ended"), False), (("opened", "closed"), False), (("too_hot", "opened"), True)],
)
def test_events_that_the_state_says_too_make_no_entity(events: tuple[str, ...], has_event: bool) -> None:
    """Others do, with all of their types."""
    result = components(built(DeviceSpec("d", "in", "input", events=events)))

    assert ("event_d" in result) == has_event
    assert not has_event or result["event_d"]["evt_typ"] == list(events)


@pytest.mark.parametrize(
    ("events", "shown"),
    [
        (("pressed", "held"), ["ring", "held"]),
        (("held",), ["held", "ring"]),
        (("ring", "pressed"), ["ring", "pressed"]),
    ],
)
def test_a_doorbell_rings(events: tuple[str, ...], shown: Sequence[str]) -> None:
    """Home Assistant wants a doorbell to have this event; the class is the event's, not the state's."""
    bell = DeviceSpec("d", "in", "button", events=events, device_class="doorbell")
    result = built(bell)

    assert result.flaws == ()
    assert components(result)["event_d"]["dev_cla"] == "doorbell"
    assert components(result)["event_d"]["evt_typ"] == shown
    assert "dev_cla" not in components(result)["in_d"]


def test_a_node_with_timers_tells_their_ends() -> None:
    """One that has none has no such entity."""
    timer = components(built(tools=(ToolSpec("timer_set"),)))["timer_finished"]

    assert (timer["p"], timer["evt_typ"], timer["stat_t"]) == ("event", ["timer_finished"], "pibot/node/kitchen/event")
    assert "timer_finished" not in components(built(tools=(ToolSpec("other"),)))


def test_a_reflex_is_a_setting() -> None:
    """It is named by what it says, shortened."""
    says = "when it is above 30 °C in the kitchen, turn on the fan until it is below 25 °C"
    reflex = components(built(reflexes=(ReflexSpec("cool", says),)))["reflex_cool"]

    assert (reflex["p"], reflex["ent_cat"]) == ("switch", "config")
    assert reflex["name"] == "When it is above 30 °C in the kitchen, turn on the fan…"
    assert reflex["cmd_t"] == "pibot/node/kitchen/reflex/cool/set"


def test_diagnostics_are_those_that_the_node_can_have() -> None:
    """An old node does not say why it started; one without sensors has none that is silent."""
    assert "health_start_reason" not in components(built())
    assert "health_silent_sensors" not in components(built())
    result = components(built(CLIMATE, start_reason="power_loss"))
    assert result["health_start_reason"]["ops"] == ["first", "restart", "crash", "reboot", "power_loss"]
    assert result["health_stopped"]["dev_cla"] == "problem"
    assert {each["ent_cat"] for key, each in result.items() if key.startswith("health_")} == {"diagnostic"}


def test_names_do_not_repeat_the_device() -> None:
    """Home Assistant puts the device's name before them; an entity that is called as its device has none."""
    result = built(
        DeviceSpec("a", "out", "relay", label="Kitchen kitchen fan"),
        DeviceSpec("b", "out", "relay", label="Kitchen"),
        DeviceSpec("c", "out", "relay", label="Kitchenette"),
    )

    assert names(result, "out_a", "out_b", "out_c") == ["Fan", None, "Kitchenette"]


def test_names_that_are_alike_get_the_ids() -> None:
    """Within a platform, where Home Assistant would number them."""
    result = built(
        DeviceSpec("a", "out", "relay", name="fan"),
        DeviceSpec("b", "out", "relay", label="Fan"),
        DeviceSpec("c", "out", "relay", name="--"),
        DeviceSpec("d", "in", "input", name="fan"),
    )

    assert names(result, "out_a", "out_b", "out_c", "in_d") == ["Fan (a)", "Fan (b)", "C", "Fan"]


def test_a_sensor_for_what_the_health_says_too_is_told_from_it() -> None:
    """A node may have a sensor of its CPU; the diagnostic one is marked."""
    cpu = DeviceSpec("cpu", "sensor", "cpu", label="CPU", measures={"temperature": Measure("°C"), "use": Measure("%")})
    other = DeviceSpec("other", "sensor", "x", measures={"m": Measure()})
    result = built(cpu, other)

    assert names(result, "sensor_cpu_temperature", "health_cpu_temperature") == [
        "CPU temperature (cpu)",
        "CPU temperature (health)",
    ]
    assert components(result)["sensor_cpu_temperature"]["def_ent_id"] == "sensor.kitchen_cpu_temperature"
    assert components(result)["health_cpu_temperature"]["def_ent_id"] == "sensor.kitchen_health_cpu_temperature"


def test_one_of_every_kind_is_taken_without_a_word() -> None:
    """And is far from what a message may be."""
    result = built(*every_kind(), tools=(ToolSpec("timer_set"),), start_reason="first")

    assert check(Naming().config_topic("kitchen"), result.payload) == []
    assert result.flaws == ()
    assert len(json.dumps(result.payload, separators=(",", ":"))) < 32 * 1024


@settings(deadline=None)
@given(CARDS)
def test_home_assistant_takes_whatever_a_card_shows(card: NodeCard) -> None:
    """Nothing of a payload is dropped, and nothing warned of: what does not fit was left out."""
    naming = Naming()
    result = node_payload(card, Topics(), naming, version="1.3.0")

    assert check(naming.config_topic(card.node), result.payload) == []
    assert json.dumps(result.payload) == json.dumps(node_payload(card, Topics(), naming, version="1.3.0").payload)
