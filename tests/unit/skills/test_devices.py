"""The tools for devices, through the registry, on mock pins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import pytest

from pibot_mesh.agent.settled import Settled
from pibot_mesh.agent.tools import ToolContext, ToolRegistry
from pibot_mesh.config.settings import DeviceSettings
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.hardware.board import Board, default_simulated_devices
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Cause, Output, OutputValue
from pibot_mesh.skills.devices import device_tools, seconds_words, wire_value

CONTEXT = ToolContext(task="t1", request="r1")


@pytest.fixture
async def board() -> AsyncIterator[Board]:
    """A running board with the devices that a simulated node has by default, and a contact."""
    devices = (*default_simulated_devices(), DeviceSettings("door", "contact", 24, "back door", "hall"))
    board = Board(devices, simulate=True, on_change=lambda _: None, seed=1)
    await board.start()
    yield board
    await board.stop()


async def call(board: Board, name: str, **args: JSON) -> Output:
    """Call a tool as a task does."""
    return await ToolRegistry(device_tools(board)).call(name, args, CONTEXT)


@pytest.mark.parametrize(
    ("args", "text", "value"),
    [
        ({"device": "fan", "value": "ON"}, "fan is on", "ON"),
        ({"device": "fan", "value": "OFF"}, "fan is off", "OFF"),
        ({"device": "lamp", "value": 40}, "lamp is at 40 %", 40),
        ({"device": "lamp", "value": 33.5}, "lamp is at 33.5 %", 33.5),
        ({"device": "lamp", "value": "ON"}, "lamp is at 100 %", 100),
        ({"device": "lamp", "value": 0}, "lamp is off", 0),
    ],
)
async def test_output_set_answers_what_was_read_back(
    board: Board, args: Mapping[str, JSON], text: str, value: JSON
) -> None:
    """In words for people and as data for later steps."""
    output = await call(board, "output_set", **args)
    assert output == Output(text, {"device": args["device"], "name": args["device"], "value": value})
    assert (await call(board, "output_get", device=args["device"])).text == text


STRIP = DeviceSettings("strip", "rgb_led", options={"pins": {"red": 4, "green": 5, "blue": 6}})
FLAP = DeviceSettings("flap", "servo", 12, room="attic", label="Roof window")


@pytest.fixture
async def workshop() -> AsyncIterator[Board]:
    """A running board with outputs of the other sorts."""
    devices = (STRIP, FLAP, DeviceSettings("pump", "motor", 13), DeviceSettings("bell", "buzzer", 16))
    board = Board(devices, simulate=True, on_change=lambda _: None)
    await board.start()
    yield board
    await board.stop()


@pytest.mark.parametrize(
    ("device", "asked", "text", "value"),
    [
        ("strip", "#FF8800", "strip is #ff8800", "#ff8800"),
        ("strip", "ON", "strip is #ffffff", "#ffffff"),
        ("strip", 50, "strip is #808080", "#808080"),
        ("strip", "OFF", "strip is off", "#000000"),
        ("flap", 40, "flap is at 40 %", 40),
        ("flap", "OFF", "flap is at 0 %", 0),
        ("pump", "ON", "pump is at 100 %", 100),
        ("pump", 0, "pump is off", 0),
        ("bell", "ON", "bell is on", "ON"),
    ],
)
async def test_each_sort_of_output_takes_what_it_can_be(
    workshop: Board, device: str, asked: JSON, text: str, value: JSON
) -> None:
    """A color, a position, a level, on and off."""
    output = await call(workshop, "output_set", device=device, value=asked)
    assert output == Output(text, {"device": device, "name": device, "value": value})
    assert (await call(workshop, "output_get", device=device)).text == text


@pytest.mark.parametrize(
    ("device", "asked"),
    [("strip", "#ff88"), ("strip", "red"), ("strip", 101), ("flap", "#ff8800"), ("bell", "#ffffff")],
)
async def test_a_color_is_for_what_has_one_and_is_written_in_full(workshop: Board, device: str, asked: JSON) -> None:
    """And nothing moves."""
    before = workshop.outputs()
    with pytest.raises(ToolError) as caught:
        await call(workshop, "output_set", device=device, value=asked)
    assert caught.value.code == ErrorCode.BAD_ARGUMENTS
    assert workshop.outputs() == before


async def test_the_tools_say_which_device_takes_what(workshop: Board) -> None:
    """A model reads no configuration: labels and rooms stand beside the names."""
    properties = device_tools(workshop)[0].spec.parameters["properties"]
    assert properties["value"]["description"] == (
        "ON, OFF, or for flap, pump a number of percent from 0 to 100, or for strip a color such as #ff8800, or a "
        "number of percent of white."
    )
    assert properties["device"]["description"] == (
        "strip (strip), flap (flap in attic, Roof window), pump (pump), bell (bell)"
    )


async def test_output_set_says_for_how_long(board: Board) -> None:
    """And who asked for it is known."""
    output = await call(board, "output_set", device="fan", value="ON", for_s=600)
    assert output.text == "fan is on for 10 minutes"
    assert output.data == {"device": "fan", "name": "fan", "value": "ON", "for_s": 600}
    assert board.outputs()["fan"] == (True, Cause(by="task", id="t1", request="r1", reason="for 10 minutes"))


@pytest.mark.parametrize(
    "args",
    [
        {"device": "fan"},
        {"value": "ON"},
        {"device": "button", "value": "ON"},
        {"device": "fan", "value": "toggle"},
        {"device": "fan", "value": True},
        {"device": "lamp", "value": 101},
        {"device": "lamp", "value": -1},
        {"device": "fan", "value": 50},
        {"device": "fan", "value": "ON", "for_s": 0},
        {"device": "fan", "value": "ON", "for_s": 1e9},
        {"device": "fan", "value": "OFF", "for_s": 60},
        {"device": "fan", "value": "ON", "extra": 1},
    ],
)
async def test_output_set_refuses_what_does_not_fit(board: Board, args: Mapping[str, JSON]) -> None:
    """And nothing moves."""
    before = board.outputs()
    with pytest.raises(ToolError) as caught:
        await call(board, "output_set", **args)
    assert caught.value.code == ErrorCode.BAD_ARGUMENTS
    assert board.outputs() == before


async def test_output_set_is_refused_while_the_stop_holds(board: Board) -> None:
    """With a code of its own."""
    board.hold(True, Cause(by="stop"))
    with pytest.raises(ToolError) as caught:
        await call(board, "output_set", device="fan", value="ON")
    assert caught.value.code == ErrorCode.STOPPED


async def test_inputs_answer_in_the_words_of_their_kind(board: Board) -> None:
    """A button is pressed, a door is open."""
    board.simulated_pin("button").drive_low()
    assert await call(board, "input_read", device="button") == Output(
        "button is pressed", {"device": "button", "name": "button", "value": "ON", "state": "pressed"}
    )
    assert (await call(board, "input_read", device="motion")).text == "motion is seeing no motion"
    board.simulated_pin("door").drive_low()
    assert (await call(board, "input_read", device="door")).text == "back door is closed"


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12.5, "l", "water meter is at 12.5 l"),
        (3.0, "", "water meter is at 3"),
        (-20.0, "m³", "water meter is at -20 m³"),
    ],
)
async def test_an_input_that_counts_answers_with_its_number(
    value: float, unit: str, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And its unit."""
    meter = DeviceSettings("water", "counter", 24, "water meter", options={"unit": unit})
    board = Board([meter], simulate=True, on_change=lambda _: None)
    monkeypatch.setattr(board, "state", lambda _: value)
    output = await call(board, "input_read", device="water")
    assert output == Output(text, {"device": "water", "name": "water meter", "value": value, "unit": unit})


async def test_a_sensor_is_read_now(board: Board) -> None:
    """All that it measures, or one quantity, with units."""
    output = await call(board, "sensor_read", device="climate")
    values = board.readings()["climate"]
    assert output.data == {
        "device": "climate",
        "name": "climate",
        "values": values,
        "units": {"temperature": "°C", "humidity": "%"},
    }
    assert output.text == f"climate: temperature {values['temperature']:g} °C, humidity {values['humidity']:g} %"
    output = await call(board, "sensor_read", device="climate", measure="humidity")
    assert output.data["units"] == {"humidity": "%"}
    assert set(output.data["values"]) == {"humidity"}


async def test_a_sensor_is_not_asked_for_what_it_does_not_measure() -> None:
    """Where another sensor of the node does."""
    devices = [DeviceSettings("air", "temperature"), DeviceSettings("sky", "light_level")]
    board = Board(devices, simulate=True, on_change=lambda _: None)
    await board.start()
    with pytest.raises(ToolError, match="sky does not measure temperature, only illuminance"):
        await call(board, "sensor_read", device="sky", measure="temperature")
    await board.stop()


@pytest.fixture
async def two_sensors() -> AsyncIterator[Board]:
    """A board with sensors alone."""
    devices = [DeviceSettings("air", "temperature"), DeviceSettings("sky", "light_level")]
    board = Board(devices, simulate=True, on_change=lambda _: None)
    await board.start()
    yield board
    await board.stop()


async def test_all_sensors_are_read_at_once(two_sensors: Board) -> None:
    """One answer with all of them."""
    output = await call(two_sensors, "sensor_read_all")
    assert output.data == {
        "sensors": two_sensors.readings(),
        "units": {"temperature": "°C", "illuminance": "lx"},
    }
    assert "; sky: illuminance" in output.text


async def test_one_dead_sensor_does_not_hide_the_others(two_sensors: Board, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named; where all are dead, that is an error."""
    read = two_sensors.read
    dead = {"sky"}

    async def read_some(device: str) -> dict[str, float]:
        if device in dead:
            raise ToolError("no answer")
        return await read(device)

    monkeypatch.setattr(two_sensors, "read", read_some)
    output = await call(two_sensors, "sensor_read_all")
    assert set(output.data["sensors"]) == {"air"}
    assert output.data["failed"] == {"sky": "no answer"}
    assert output.text.endswith("sky could not be read: no answer")
    dead.add("air")
    with pytest.raises(ToolError, match="air could not be read: no answer; sky could not be read: no answer"):
        await call(two_sensors, "sensor_read_all")


async def test_a_bug_in_a_sensor_is_not_taken_for_a_dead_one(
    two_sensors: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only ToolError is an answer."""

    async def read(device: str) -> dict[str, float]:
        raise KeyError(device)

    monkeypatch.setattr(two_sensors, "read", read)
    with pytest.raises(KeyError):
        await call(two_sensors, "sensor_read_all")


def names(*devices: DeviceSettings) -> list[str]:
    """The tools of a node with these devices."""
    board = Board(devices, simulate=True, on_change=lambda _: None)
    return [tool.spec.name for tool in device_tools(board)]


def test_a_node_has_tools_for_what_it_has() -> None:
    """A card that offers what is not there misleads planners."""
    assert names() == []
    assert names(DeviceSettings("fan", "switch", 4)) == ["output_set", "output_get"]
    assert names(DeviceSettings("b", "button", 4)) == ["input_read"]
    assert names(DeviceSettings("c", "climate")) == ["sensor_read", "sensor_read_all"]


def test_only_setting_an_output_acts_and_may_not_be_repeated() -> None:
    """The effects on the card, by which plans are allowed and retried."""
    board = Board(default_simulated_devices(), simulate=True, on_change=lambda _: None)
    for tool in device_tools(board):
        acts = tool.spec.name == "output_set"
        assert (tool.spec.effect, tool.spec.safe_to_retry) == ("actuate" if acts else "read", not acts)
        assert tool.spec.parameters["additionalProperties"] is False


def test_a_switch_alone_offers_no_percent() -> None:
    """The schema says ON and OFF only."""
    board = Board([DeviceSettings("fan", "switch", 4)], simulate=True, on_change=lambda _: None)
    assert device_tools(board)[0].spec.parameters["properties"]["value"]["enum"] == ["ON", "OFF"]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (600, "10 minutes"),
        (60, "1 minute"),
        (90, "90 seconds"),
        (3600, "1 hour"),
        (172800, "2 days"),
        (1, "1 second"),
        (0.5, "0.5 seconds"),
        (0, "0 seconds"),
    ],
)
def test_a_duration_in_words(seconds: float, words: str) -> None:
    """In the largest unit that says it in a whole number."""
    assert seconds_words(seconds) == words


# After a crash in the middle


async def settled(levels: Path, was: OutputValue, options: Mapping[str, object], **args: JSON) -> Settled | None:
    """What `output_set` tells of a call with *args*, for an output that was at *was* when the process was killed."""
    kinds: Mapping[type, str] = {bool: "switch", float: "light", str: "rgb_led"}
    kind, pins = kinds[type(was)], {"pins": {"red": 4, "green": 5, "blue": 6}}
    if kind == "rgb_led":
        device = DeviceSettings("out", kind, options={**pins, **options})
    else:
        device = DeviceSettings("out", kind, 17, options=options)
    dead = Board([device], simulate=True, on_change=lambda _: None, levels=levels)
    await dead.start()
    dead.set("out", was, cause=Cause("task"))
    board = Board([device], simulate=True, on_change=lambda _: None, levels=levels)
    await board.start()
    settle = ToolRegistry(device_tools(board))["output_set"].settle
    assert settle is not None
    try:
        return settle({"device": "out", **args})
    finally:
        await board.stop()


@pytest.mark.parametrize(
    ("was", "options", "args", "text", "is_done"),
    [
        (False, {}, {"value": "OFF"}, "out is off", True),
        (True, {"initial": True}, {"value": "ON"}, "out is on", True),
        (40.0, {"initial": 40}, {"value": 40.4}, "out is at 40 %", True),
        (100.0, {"initial": 100}, {"value": "ON"}, "out is at 100 %", True),
        (0.0, {}, {"value": "OFF"}, "out is off", True),
        ("#000000", {}, {"value": "OFF"}, "out is off", True),
        ("#ff8800", {"initial": "#ff8800"}, {"value": "#FF8800"}, "out is #ff8800", True),
        ("#ffffff", {"initial": True}, {"value": "ON"}, "out is #ffffff", True),
        (
            "#0000ff",
            {},
            {"value": "#ff0000"},
            "after the restart out was found #0000ff, not #ff0000 as ordered, and is off now",
            False,
        ),
        (True, {}, {"value": "ON"}, "after the restart out was found on, as ordered, and is off now", False),
        (60.0, {}, {"value": 60}, "after the restart out was found at 60 %, as ordered, and is off now", False),
        (False, {}, {"value": "ON"}, "after the restart out was found off, not on as ordered", False),
        (True, {}, {"value": "OFF"}, "after the restart out was found on, not off as ordered, and is off now", False),
        (
            False,
            {"initial": True},
            {"value": "ON"},
            "after the restart out was found off, not on as ordered, and is on now",
            False,
        ),
        (
            True,
            {"initial": True},
            {"value": "ON", "for_s": 60},
            "after the restart out was found on, as ordered",
            False,
        ),
    ],
)
async def test_of_a_call_that_was_cut_off_it_tells_what_the_pin_was_at(
    was: OutputValue, options: Mapping[str, object], args: Mapping[str, JSON], text: str, is_done: bool, tmp_path: Path
) -> None:
    """Done is only what was found as ordered and is so still. A time that was ordered with it has gone."""
    told = await settled(tmp_path / "pins", was, options, **args)

    assert told is not None
    assert (told.output.text, told.is_done) == (text, is_done)
    assert told.output.data["found"] == wire_value(was)
    assert told.output.data["device"] == "out"


async def test_of_a_pin_that_says_nothing_it_tells_nothing(board: Board) -> None:
    """Neither of one that nobody can read."""
    settle = ToolRegistry(device_tools(board))["output_set"].settle
    assert settle is not None
    assert settle({"device": "fan", "value": "OFF"}) is None
