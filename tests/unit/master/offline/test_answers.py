"""Answers: what happened, from results alone, in the language of the request."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest

from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.offline import OfflineEngine
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, Plan, State, Step, StepResult, WireError
from tests.unit.master.offline.house import HOUSE, KNOWN

UNITS: Mapping[str, JSON] = {"temperature": "°C", "humidity": "%"}


def done(step: str, **data: JSON) -> StepResult:
    """A completed step with *data*."""
    return StepResult(step, State.COMPLETED, output=Output(data=data))


def ended(step: str, state: State, code: ErrorCode | None = None, message: str = "") -> StepResult:
    """A step that ended otherwise."""
    return StepResult(step, state, error=WireError(code, message) if code else None)


def read(step: str, **values: JSON) -> StepResult:
    """A completed reading of the climate sensor."""
    return done(step, device="climate", name="climate", values=values, units=dict(UNITS))


def switched(step: str, name: str, value: JSON, **more: JSON) -> StepResult:
    """An output that says that it has *value*."""
    return done(step, device=name, name=name, value=value, **more)


BALCONY_28 = "if the temperature on the balcony is above 28, turn on the fan in the kitchen"
EITHER = f"{BALCONY_28}, else turn on the lamp in the kitchen"
SKIPPED = State.SKIPPED
ANSWERS: list[tuple[str, list[StepResult], str]] = [
    ("turn on the fan on worker-1", [switched("s1", "fan", "ON")], "worker-1: the fan is on."),
    ("turn on the fan on worker-1", [switched("s1", "fan", 100)], "worker-1: the fan is on."),
    ("turn on the fan on worker-1", [switched("s1", "fan", 40)], "worker-1: the fan is at 40 %."),
    ("turn on the fan on worker-1", [switched("s1", "fan", "OFF")], "worker-1: the fan is off."),
    ("turn off the fan on worker-1", [switched("s1", "fan", 0)], "worker-1: the fan is off."),
    ("set the fan on worker-1 to 100", [switched("s1", "fan", 100)], "worker-1: the fan is at 100 %."),
    ("set the fan on worker-1 to 40.5", [switched("s1", "fan", 40.5)], "worker-1: the fan is at 40.5 %."),
    (
        "turn on the lamp on worker-2",
        [switched("s1", "strip", "#ff8800")],
        "worker-2: the strip has the color #ff8800.",
    ),
    ("turn off the lamp on worker-2", [switched("s1", "strip", "#000000")], "worker-2: the strip is off."),
    ("turn on the lamp on worker-2", [switched("s1", "meter", 12.5, unit="l")], "worker-2: the meter is at 12.5 l."),
    ("turn on the fan on worker-1", [done("s1")], "worker-1: the fan did not say its state."),
    ("turn on the fan on worker-1", [done("s1", name="fan", value=True)], "worker-1: the fan did not say its state."),
    (
        "turn on the fan on worker-1 for 90 minutes",
        [switched("s1", "fan", "ON", for_s=5400)],
        "worker-1: the fan is on for 1 hour 30 minutes.",
    ),
    (
        "turn on the fan on worker-1 and read the temperature on worker-2",
        [switched("s1", "fan", "ON"), read("s2", temperature=23.4)],
        "worker-1: the fan is on. worker-2: the temperature is 23.4 °C.",
    ),
    (
        "turn on the fan and the lamp on worker-1",
        [switched("s1", "fan", "ON"), switched("s2", "lamp", 100)],
        "worker-1: the fan is on, the lamp is on.",
    ),
    (
        "turn off the fan everywhere and read the temperature on worker-1",
        [*(switched(f"s{n}", "fan", "OFF") for n in (1, 2, 3)), read("s4", temperature=20)],
        (
            "worker-1: the fan is off.\nworker-2: the fan is off.\nworker-3: the fan is off.\n"
            "worker-1: the temperature is 20 °C."
        ),
    ),
    ("is the fan on worker-1 on?", [switched("s1", "fan", "OFF")], "worker-1: the fan is off."),
    ("read the button on worker-1", [switched("s1", "button", "ON")], "worker-1: the button is on."),
    # Readings
    (
        "read the climate on worker-1",
        [read("s1", temperature=20.5, humidity=40)],
        "worker-1: the temperature is 20.5 °C, the humidity is 40 %.",
    ),
    ("read the climate on worker-1", [read("s1")], "worker-1: the climate gave no values."),
    (
        "read the soil moisture",
        [done("s1", name="soil probe", values={"soil_moisture": 31})],
        "worker-3: the soil moisture is 31.",
    ),
    (
        "read all sensors on worker-3",
        [done("s1", sensors={"climate": {"temperature": 21}, "soil": {"soil_moisture": 31}}, units=dict(UNITS))],
        "worker-3: the temperature is 21 °C, the soil moisture is 31.",
    ),
    (
        "read all sensors on worker-3",
        [done("s1", sensors={"in_side": {"temperature": 21}, "outside": {"temperature": 9}}, units=dict(UNITS))],
        "worker-3: the temperature of the in side is 21 °C, the temperature of the outside is 9 °C.",
    ),
    (
        "read all sensors on worker-3",
        [done("s1", sensors={"soil": {"soil_moisture": "wet"}}, failed={"climate": "no answer."})],
        "worker-3: the soil moisture is wet, the climate could not be read: no answer.",
    ),
    (
        "is the button on worker-1 pressed",
        [done("s1", name="button", value="OFF", state="not pressed")],
        "worker-1: the button is not pressed.",
    ),
    ("读取worker-1的按钮", [done("s1", name="button", value="OFF", state="not pressed")], "worker-1：按钮未按下。"),
    ("读取worker-1的按钮", [done("s1", name="button", value="OFF", state="asleep")], "worker-1：按钮已关闭。"),
    ("read all sensors on worker-3", [done("s1", sensors={})], "worker-3: there are no sensors."),
    # Status, list, help
    (
        "status of worker-1",
        [done("s1", cpu_temp_c=51.23, load1=0.353, mem_free_mb=180, disk_free_mb=12000.48, uptime_s=93784.2, other=1)],
        (
            "worker-1: the CPU is at 51.2 °C, the load is 0.35, 180 MB of memory are free, 12000 MB of disk are free, "
            "it has been up for 1 day 2 hours."
        ),
    ),
    ("status of worker-1", [done("s1", uptime_s=0)], "worker-1: it has been up for 0 seconds."),
    ("status of worker-1", [done("s1", load1="much")], "worker-1: it answered without any numbers."),
    (
        "status",
        [
            done(
                "s1",
                nodes={
                    "a": {"online": True, "running": 1, "devices": 5},
                    "b": {"online": False},
                    "c": {"online": True},
                },
            )
        ],
        "2 of 3 nodes are online.\na: online, 5 devices, 1 running.\nb: offline.\nc: online, 0 devices, 0 running.",
    ),
    ("status", [done("s1", nodes={})], "There are no nodes."),
    (
        "list all devices",
        [
            done(
                "s1",
                nodes={
                    "a": {
                        "labels": ["kitchen", "Zero"],
                        "outputs": ["fan", "lamp"],
                        "sensors": ["climate"],
                        "inputs": ["button"],
                    },
                    "b": {},
                },
            )
        ],
        "a (kitchen, Zero): outputs fan, lamp; sensors climate; inputs button.\nb: no devices.",
    ),
    ("list all devices", [done("s1", nodes={})], "There is nothing there."),
    ("help", [done("s1", examples=["mesh status", "help"])], "You can say, for example: \n- mesh status\n- help"),
    ("status", [ended("s1", State.FAILED, ErrorCode.INTERNAL, "a bug")], "master: that could not be found out: a bug."),
    # What went wrong
    (
        "turn on the fan on worker-1",
        [ended("s1", State.FAILED, ErrorCode.STOPPED, "the emergency stop holds.")],
        "worker-1: the fan could not be switched: the emergency stop holds.",
    ),
    (
        "turn on the garden pump",
        [ended("s1", State.REJECTED, ErrorCode.BUSY, "it is busy")],
        "worker-3: the garden pump could not be switched: it is busy.",
    ),
    (
        "turn on the fan on worker-1",
        [ended("s1", State.FAILED)],
        "worker-1: the fan could not be switched: no reason was given.",
    ),
    (
        "turn on the fan on worker-1",
        [ended("s1", State.UNKNOWN, ErrorCode.INTERRUPTED, "boot changed")],
        "worker-1: it isn't known whether the fan was switched (the node restarted in the middle).",
    ),
    (
        "turn on the fan on worker-1",
        [
            replace(
                ended("s1", State.UNKNOWN, ErrorCode.INTERRUPTED, "boot changed"),
                output=Output("", {"device": "fan", "value": "OFF", "found": "ON"}),
            )
        ],
        (
            "worker-1: it isn't known whether the fan was switched "
            "(the node restarted in the middle, and found that the fan is on; now the fan is off)."
        ),
    ),
    ("turn on the fan on worker-1", [], "worker-1: it isn't known whether the fan was switched (there is no result)."),
    (
        "turn on the fan on worker-1",
        [ended("s1", State.WORKING)],
        "worker-1: it isn't known whether the fan was switched (there is no result).",
    ),
    (
        "turn on the fan on worker-1",
        [ended("s1", State.CANCELED)],
        "worker-1: the fan was left as it was: it was cancelled.",
    ),
    (
        "turn on the fan on worker-1, then the lamp on worker-1",
        [
            ended("s1", State.FAILED, ErrorCode.TIMEOUT, "too late"),
            ended("s2", SKIPPED, ErrorCode.CANCELED, "s1 failed"),
        ],
        (
            "worker-1: the fan could not be switched: too late, the lamp was left as it was: "
            "a step before it did not succeed."
        ),
    ),
    (
        "read the temperature on worker-1",
        [ended("s1", State.FAILED, ErrorCode.TOOL_FAILED, "no answer")],
        "worker-1: the temperature could not be read: no answer.",
    ),
    (
        "read the climate on worker-1",
        [ended("s1", State.UNKNOWN)],
        "worker-1: the climate could not be read: no reason was given.",
    ),
    (
        "read the button on worker-1",
        [ended("s1", State.CANCELED)],
        "worker-1: the button was not read: it was cancelled.",
    ),
    (
        "read all sensors on worker-1",
        [ended("s1", State.FAILED, ErrorCode.TIMEOUT, "too late")],
        "worker-1: the sensors could not be read: too late.",
    ),
    (
        "status of worker-1",
        [ended("s1", State.FAILED, ErrorCode.TIMEOUT, "too late")],
        "worker-1: its status could not be read: too late.",
    ),
    # Conditions
    (
        BALCONY_28,
        [read("s1", temperature=29), switched("s2", "fan", "ON")],
        "worker-2: the temperature is 29 °C, which is above 28. worker-1: the fan is on.",
    ),
    (
        BALCONY_28,
        [read("s1", temperature=24.1), ended("s2", SKIPPED)],
        "worker-2: the temperature is 24.1 °C, which is not above 28, so worker-1's fan was left as it was.",
    ),
    (
        BALCONY_28.replace("the fan", "the fan and the lamp"),
        [read("s1", temperature=24.1), ended("s2", SKIPPED), ended("s3", SKIPPED)],
        (
            "worker-2: the temperature is 24.1 °C, which is not above 28, so worker-1's fan and worker-1's lamp "
            "were left as they were."
        ),
    ),
    (
        EITHER,
        [read("s1", temperature=29), switched("s2", "fan", "ON"), ended("s3", SKIPPED)],
        "worker-2: the temperature is 29 °C, which is above 28. worker-1: the fan is on.",
    ),
    (
        EITHER,
        [read("s1", temperature=24), ended("s2", SKIPPED), switched("s3", "lamp", "ON")],
        "worker-2: the temperature is 24 °C, which is not above 28. worker-1: the lamp is on.",
    ),
    (
        BALCONY_28,
        [
            ended("s1", State.FAILED, ErrorCode.TIMEOUT, "too late"),
            ended("s2", SKIPPED, ErrorCode.CANCELED, "s1 failed"),
        ],
        (
            "worker-2: the temperature could not be read: too late. worker-1: the fan was left as it was: "
            "a step before it did not succeed."
        ),
    ),
    (
        BALCONY_28,
        [read("s1", temperature=29), ended("s2", SKIPPED, ErrorCode.CANCELED, "another failed")],
        "worker-2: the temperature is 29 °C. worker-1: the fan was left as it was: a step before it did not succeed.",
    ),
    (
        "if the temperature on worker-1 is at least 28, read the humidity on worker-1",
        [read("s1", temperature=20), ended("s2", SKIPPED)],
        "worker-1: the temperature is 20 °C, which is not at least 28, so no more was read.",
    ),
    (
        "if the temperature on worker-1 is below 5, mesh status",
        [read("s1", temperature=20), ended("s2", SKIPPED)],
        "worker-1: the temperature is 20 °C, which is not below 5, so no more was read.",
    ),
    # Chinese
    ("打开worker-1的风扇", [switched("s1", "fan", "ON")], "worker-1：风扇已打开。"),
    ("打开worker-1的风扇90秒", [switched("s1", "fan", "ON", for_s=90)], "worker-1：风扇已打开，持续1分钟30秒。"),
    (
        "打开worker-1的风扇，并读取worker-2的温度",
        [switched("s1", "fan", "ON"), read("s2", temperature=23.4)],
        "worker-1：风扇已打开。worker-2：温度是 23.4 °C。",
    ),
    (
        "如果阳台的温度高于28度，就打开厨房的风扇",
        [read("s1", temperature=24), ended("s2", SKIPPED)],
        "worker-2：温度是 24 °C，并非高于 28，所以worker-1 的风扇保持原样。",
    ),
    (
        "打开worker-1的灯",
        [ended("s1", State.UNKNOWN, ErrorCode.INTERRUPTED, "")],
        "worker-1：不知道灯是否已切换（节点在中途重启）。",
    ),
    (
        "系统状态",
        [done("s1", nodes={"a": {"online": True, "devices": 5}})],
        "1 个节点中有 1 个在线。\na：在线，5 个设备，正在执行 0 个任务。",
    ),
]


@pytest.mark.parametrize(("sentence", "results", "answer"), ANSWERS)
def test_an_answer_says_what_happened(
    engine: OfflineEngine, sentence: str, results: list[StepResult], answer: str
) -> None:
    """From the results of the plan of a sentence."""
    plan = engine.plan(sentence, HOUSE, known=KNOWN)
    assert isinstance(plan, Plan)

    assert engine.answer(plan, results) == answer


def test_two_sensors_of_one_node_are_told_apart(engine: OfflineEngine) -> None:
    """The same measure of two sensors comes with their names."""
    steps = tuple(
        Step(f"s{index}", node="a", tool="sensor_read", args={"device": device, "measure": "temperature"})
        for index, device in ((1, "inside"), (2, "outside"))
    )
    results = [done(step.id, name=step.args["device"], values={"temperature": 20}, units=dict(UNITS)) for step in steps]

    assert engine.answer(Plan("offline", steps), results) == (
        "a: the temperature of the inside is 20 °C, the temperature of the outside is 20 °C."
    )


def test_a_device_keeps_the_name_that_another_step_learned(engine: OfflineEngine) -> None:
    """A failed step has no name of its own; the one before it had."""
    steps = tuple(Step(f"s{n}", node="a", tool="output_set", args={"device": "p1", "value": "ON"}) for n in (1, 2))
    results = [done("s1", name="Pump", value="ON"), ended("s2", State.FAILED, ErrorCode.BUSY, "busy")]

    assert engine.answer(Plan("offline", steps), results) == "a: the Pump is on, the Pump could not be switched: busy."


def test_tools_that_the_engine_does_not_know_speak_for_themselves(engine: OfflineEngine) -> None:
    """A plan of the model may hold any step: its own text is its answer, or nothing is claimed."""
    steps = (
        Step("s1", node="a", tool="play"),
        Step("s2", node="a", tool="play"),
        Step("s3", kind="agent", node="a", instruction="look"),
        Step("s4", node="a", tool="play"),
        Step("s5", node="master", tool="other"),
    )
    results = [
        StepResult(f"s{n}", State.COMPLETED, output=Output(text)) for n, text in enumerate(["tune", "", "seen"], 1)
    ]
    results += [ended("s4", State.FAILED, ErrorCode.BUSY, "busy"), StepResult("s5", State.COMPLETED)]

    assert engine.answer(Plan("llm", steps, "xx"), results).splitlines() == [
        "a: tune, play is done.",
        "seen",
        "a: play did not succeed: busy.",
        "There is nothing to say.",
    ]


def test_when_nothing_was_needed_that_is_said(engine: OfflineEngine) -> None:
    """A plan whose only steps were not needed still has an answer."""
    plan = Plan("llm", (Step("s1", node="a", tool="play"),))

    assert engine.answer(plan, [ended("s1", State.SKIPPED)]) == "There is nothing to say."


def test_the_same_results_give_the_same_answer(engine: OfflineEngine) -> None:
    """In any order in which they came in."""
    plan = engine.plan("turn on the fan and the lamp on worker-1", HOUSE)
    assert isinstance(plan, Plan)
    results = [switched("s1", "fan", "ON"), switched("s2", "lamp", 40)]

    assert engine.answer(plan, results) == engine.answer(plan, results[::-1])
