"""Reflexes at work, on a board with simulated pins and a real file."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from pibot_mesh.config.settings import Action, Condition, DeviceSettings, ReflexSettings
from pibot_mesh.errors import ConfigError, ErrorCode, ToolError
from pibot_mesh.hardware.board import Board
from pibot_mesh.hardware.changes import Change, InputChanged, InputEvent, OutputChanged, SensorRead
from pibot_mesh.node.reflex_runner import MAX_LEARNED, ReflexRunner, silences_of
from pibot_mesh.node.reflex_store import Learned, ReflexStore, load
from pibot_mesh.protocol.messages import Cause, OutputValue
from tests.brokers import until

DEVICES = (
    DeviceSettings("fan", "switch", 17, "fan"),
    DeviceSettings("lamp", "light", 18, "lamp"),
    DeviceSettings("button", "button", 22, "button"),
    DeviceSettings("climate", "climate", None, "climate", options={"interval_s": 86_400}),
)
COOL = ReflexSettings(
    "cool",
    Condition("climate", "temperature", above=28),
    (Action("fan", True),),
    (Action("fan", False),),
)
HOLD = ReflexSettings("hold", Condition("button", state=True), (Action("lamp", 40.0),), (Action("lamp", 0.0),))
SOON = ReflexSettings("soon", Condition("button", state=True, for_s=0.05), (Action("fan", True),))


class Post:
    """A node's board with reflexes: what they set, and what they tell."""

    def __init__(self, folder: Path, *reflexes: ReflexSettings, **options: Any) -> None:
        self.set: list[OutputChanged] = []
        self.shown = 0
        self.states: list[tuple[str, bool | None]] = []
        self.has_sensors = False
        """Whether what the simulated sensors read counts, and not only what a test says."""
        self.file = folder / "reflexes.json"
        self.board = Board(DEVICES, simulate=True, on_change=self._changed, seed=1)
        self.runner = ReflexRunner(
            self.board,
            reflexes,
            ReflexStore(self.file),
            changed=self._show,
            state=lambda id_, is_on: self.states.append((id_, is_on)),
            **options,
        )

    async def __aenter__(self) -> Post:
        await self.board.start()
        self.set.clear()
        self.runner.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.runner.stop()
        await self.board.stop()
        await self.runner.written()

    def _changed(self, change: Change) -> None:
        if isinstance(change, OutputChanged):
            self.set.append(change)
        if self.has_sensors or not isinstance(change, SensorRead):
            self.runner.hear(change)

    def _show(self) -> None:
        self.shown += 1

    def reads(self, temperature: float) -> None:
        self.runner.hear(SensorRead("climate", {"temperature": temperature, "humidity": 50.0}))

    def outputs(self) -> Mapping[str, OutputValue]:
        return {device: value for device, (value, _) in self.board.outputs().items()}


async def test_an_output_is_set_with_its_cause(tmp_path: Path) -> None:
    """The cause names the rule, and says it."""
    async with Post(tmp_path, COOL) as post:
        post.reads(30)

        assert post.outputs()["fan"] is True
        assert post.set[-1].cause == Cause(
            by="rule", id="cool", reason="when climate temperature is above 28 °C: fan on; else fan off"
        )


STOP = Cause("stop", reason="emergency stop")


async def _stopped_and_released(post: Post, clock: list[float]) -> None:
    post.board.hold(True, STOP)
    clock[0] += 10
    post.board.hold(False, STOP)
    clock[0] += 6
    post.runner._wake()


async def test_after_a_stop_a_reflex_has_what_it_had(tmp_path: Path) -> None:
    """Its output is on again within five seconds of the release."""
    clock = [0.0]
    async with Post(tmp_path, COOL, now=lambda: clock[0]) as post:
        post.reads(30)
        await _stopped_and_released(post, clock)

        assert post.outputs()["fan"] is True


async def test_after_a_stop_nothing_goes_on_that_another_had_turned_off(tmp_path: Path) -> None:
    """A person, or another reflex: what changed last counts, over the stop too."""
    clock = [0.0]
    guard = ReflexSettings("guard", Condition("button", state=True), (Action("fan", False),))
    async with Post(tmp_path, guard, COOL, now=lambda: clock[0]) as post:
        post.reads(30)
        post.board.set("fan", False, cause=Cause("person"))
        await _stopped_and_released(post, clock)
        assert post.outputs()["fan"] is False

        post.reads(20)
        post.reads(30)
        assert post.outputs()["fan"] is True
        post.runner.hear(InputChanged("button", True))
        await _stopped_and_released(post, clock)
        assert post.outputs()["fan"] is False


async def test_a_reflex_that_is_off_looks_after_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that was forgotten: what it set goes off when nobody is there."""
    let_go: list[str] = []
    async with Post(tmp_path, COOL) as post:
        monkeypatch.setattr(post.board, "let_go", let_go.append)
        await post.runner.learn(HOLD)
        post.runner.switch("cool", False)
        post.runner.switch("cool", True)
        await post.runner.forget("hold")

    assert let_go == ["cool", "hold"]


async def test_what_could_never_be_done_is_not_learned(tmp_path: Path) -> None:
    """Off for a time, where off is what it goes back to."""
    pulse = ReflexSettings("pulse", Condition("button", event="pressed"), (Action("fan", False, 5.0),))
    async with Post(tmp_path) as post:
        with pytest.raises(ToolError, match="fan goes back to this by itself"):
            await post.runner.learn(pulse)


async def test_a_flood_of_switches_is_written_a_few_times(tmp_path: Path) -> None:
    """The last word is kept, and nothing piles up."""
    async with Post(tmp_path, COOL) as post:
        for number in range(1_000):
            post.runner.switch("cool", bool(number % 2))
            assert len(post.runner._writing) <= 2
        post.runner.switch("cool", False)
        await post.runner.written()
    assert load(post.file.read_bytes()).switched == {"cool": False}


async def test_a_reflex_for_which_the_card_has_no_room_is_not_kept(tmp_path: Path) -> None:
    """Neither learned, nor taken in at a start: the node would not come online with it."""
    async with Post(tmp_path, too_much=lambda reflex: f"{reflex.id} is too long") as post:
        with pytest.raises(ToolError, match="the node's card has no room for this reflex: hold is too long"):
            await post.runner.learn(HOLD)
        assert post.runner.learned() == {}
    await ReflexStore(tmp_path / "reflexes.json").write(lambda: Learned((HOLD,)))
    async with Post(tmp_path, too_much=lambda _: "too long") as post:
        assert post.runner.specs() == ()


async def test_what_the_inputs_are_at_the_start_decides(tmp_path: Path) -> None:
    """Nobody has to press the button once more."""
    otherwise = ReflexSettings("idle", Condition("button", state=False), (Action("lamp", 40.0),))
    async with Post(tmp_path, otherwise) as post:
        assert post.outputs()["lamp"] == pytest.approx(40, abs=1)
        assert post.states == [("idle", True)]


async def test_a_wait_ends_by_itself(tmp_path: Path) -> None:
    """A timer wakes the reflex; one that got a later time is not in the way."""
    late = ReflexSettings("late", Condition("button", state=True, for_s=60), (Action("lamp", 1.0),))
    async with Post(tmp_path, late, SOON) as post:
        post.runner.hear(InputChanged("button", True))
        assert post.outputs()["fan"] is False

        await until(lambda: post.outputs()["fan"] is True, "the fan is on")

        assert post.outputs()["lamp"] == 0


async def test_what_was_refused_is_tried_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is logged once, however often it is tried; here the emergency stop holds for a while."""
    monkeypatch.setattr("pibot_mesh.node.reflex_rule.TRY_AGAIN_S", 0.01)
    async with Post(tmp_path, COOL) as post:
        post.board.hold(True, Cause("stop"))
        tries = 0
        setting = post.board.set

        def counted(*args: Any, **options: Any) -> OutputValue:
            nonlocal tries
            tries += 1
            return setting(*args, **options)

        monkeypatch.setattr(post.board, "set", counted)
        post.reads(30)
        await until(lambda: tries > 3, "it is tried again")
        assert post.outputs()["fan"] is False

        post.board.hold(False, Cause("stop"))
        await until(lambda: post.outputs()["fan"] is True, "the fan is on")

    assert caplog.text.count("the reflex cool could not do what it says") == 1


async def test_one_that_was_on_in_the_emergency_stop_goes_on_after_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By what holds then, without a new reading."""
    monkeypatch.setattr("pibot_mesh.node.reflex_rule.TRY_AGAIN_S", 0.01)
    async with Post(tmp_path, COOL) as post:
        post.reads(30)
        post.board.hold(True, Cause("stop"))
        assert post.outputs()["fan"] is False

        post.board.hold(False, Cause("stop"))

        await until(lambda: post.outputs()["fan"] is True, "the fan is on")


async def test_what_can_never_be_is_logged_and_not_tried(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Off for a time, where off is the safe state."""
    never = ReflexSettings("never", Condition("button", state=True), (Action("fan", False, 3.0),))
    async with Post(tmp_path, never) as post:
        post.runner.hear(InputChanged("button", True))

        assert "the reflex never could not do what it says" in caplog.text
        assert post.runner._reflexes.wake_at() is None


async def test_a_bug_in_one_does_not_stop_the_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever a driver raises."""
    both = ReflexSettings("both", COOL.when, (Action("lamp", 40.0),))
    async with Post(tmp_path, both, COOL) as post:
        setting = post.board.set

        def broken(device: str, *args: Any, **options: Any) -> OutputValue:
            return 1 / 0 if device == "lamp" else setting(device, *args, **options)

        monkeypatch.setattr(post.board, "set", broken)
        post.reads(30)

        assert post.outputs()["fan"] is True
    assert "a bug: the reflex both could not set lamp" in caplog.text


async def test_a_switch_is_kept_over_a_restart(tmp_path: Path) -> None:
    """One that was switched off sets nothing, also after it; switched twice, it is told again and written once."""
    async with Post(tmp_path, COOL, HOLD) as post:
        assert post.states == [("cool", True), ("hold", True)]
        post.runner.switch("cool", False)
        post.runner.switch("cool", False)
        assert post.states[2:] == [("cool", False)] * 2

    async with Post(tmp_path, COOL, HOLD) as post:
        post.reads(30)
        assert post.runner.states() == {"cool": False, "hold": True}
        assert post.outputs()["fan"] is False
        post.runner.switch("cool", True)
        assert post.outputs()["fan"] is True

    async with Post(tmp_path, HOLD) as post:
        post.runner.switch("hold", False)
    assert load(post.file.read_bytes()).switched == {"hold": False}  # nobody knows the other any more


async def test_one_that_is_not_there_cannot_be_switched(tmp_path: Path) -> None:
    """It is said which are; nor can one while they do not run."""
    async with Post(tmp_path, COOL) as post:
        with pytest.raises(ToolError, match=r"no reflex 'col' \(did you mean 'cool'\?\); there are: cool"):
            post.runner.switch("col", True)
    with pytest.raises(ToolError, match="do not run"):
        post.runner.switch("cool", True)


async def test_one_that_is_learned_begins_at_once_and_stays(tmp_path: Path) -> None:
    """By what is known already; it is on the disk before it is told, and there after a restart."""
    async with Post(tmp_path) as post:
        post.reads(30)
        spec = await post.runner.learn(COOL)

        assert (spec.id, spec.is_learned) == ("cool", True)
        assert load(post.file.read_bytes()).reflexes == (COOL,)
        assert post.outputs()["fan"] is True
        assert post.states == [("cool", True)]
        assert post.shown == 1

    async with Post(tmp_path) as post:
        assert post.runner.specs() == (spec,)
        post.reads(30)
        assert post.outputs()["fan"] is True


async def test_one_that_is_forgotten_is_gone_for_good(tmp_path: Path) -> None:
    """The output stays as it was; the topic is cleared, and the card is shown again."""
    async with Post(tmp_path) as post:
        await post.runner.learn(COOL)
        post.runner.switch("cool", False)
        post.runner.switch("cool", True)
        post.reads(30)
        await post.runner.forget("cool")

        assert post.outputs()["fan"] is True
        post.reads(20)
        assert post.outputs()["fan"] is True
        assert post.states[-1] == ("cool", None)
        assert post.shown == 2
        assert post.runner.specs() == ()
    assert load(post.file.read_bytes()) == Learned()


async def test_what_cannot_be_learned_is_refused(tmp_path: Path) -> None:
    """In words; nothing is kept of it."""
    async with Post(tmp_path, HOLD) as post:
        wrong = ReflexSettings("wrong", Condition("climat", above=1), (Action("fan", True),))
        with pytest.raises(ToolError, match=r"wrong.when: there is no sensor or input 'climat'"):
            await post.runner.learn(wrong)
        with pytest.raises(ToolError, match="there is a reflex hold already"):
            await post.runner.learn(HOLD)
        with pytest.raises(ToolError, match="the reflex hold stands in the node's file"):
            await post.runner.forget("hold")
        with pytest.raises(ToolError, match="there is no reflex 'cool'; there are none"):
            await post.runner.forget("cool")
        assert [spec.id for spec in post.runner.specs()] == ["hold"]
        assert not post.file.exists()


async def test_only_so_many_are_learned(tmp_path: Path) -> None:
    """Until one is removed."""
    async with Post(tmp_path) as post:
        many = tuple(ReflexSettings(f"r{number}", COOL.when, COOL.then) for number in range(MAX_LEARNED))
        for reflex in many:
            await post.runner.learn(reflex)

        with pytest.raises(ToolError, match="as many as it may") as caught:
            await post.runner.learn(COOL)

        assert caught.value.code == ErrorCode.BUSY
        await post.runner.forget("r0")
        await post.runner.learn(COOL)


async def test_what_cannot_be_written_is_not_kept(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A full disk: neither a new one nor the end of an old one; a switch holds, and it is said that it may be lost."""
    async with Post(tmp_path) as post:
        await post.runner.learn(COOL)
        draft = post.file.with_name("reflexes.json.new")
        draft.mkdir()

        with pytest.raises(ToolError, match="cannot be written to") as caught:
            await post.runner.learn(HOLD)
        with pytest.raises(ToolError, match="cannot be written to"):
            await post.runner.forget("cool")
        post.runner.switch("cool", False)
        await until(lambda: "a restart may forget" in caplog.text, "it is said")

        assert (caught.value.code, caught.value.retryable) == (ErrorCode.STORAGE, True)
        assert [spec.id for spec in post.runner.specs()] == ["cool"]
        draft.rmdir()
        await post.runner.learn(HOLD)
    assert [reflex.id for reflex in load(post.file.read_bytes()).reflexes] == ["cool", "hold"]


async def test_a_learned_one_that_does_not_fit_any_more_is_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Its device is gone, or the file has one of its name now. It stays in the store until somebody removes it."""
    gone = ReflexSettings("gone", Condition("attic", state=True), (Action("fan", True),))
    await ReflexStore(tmp_path / "reflexes.json").write(lambda: Learned((gone, HOLD)))

    async with Post(tmp_path, HOLD) as post:
        assert [(spec.id, spec.is_learned) for spec in post.runner.specs()] == [("hold", False)]
        assert "gone.when: there is no sensor or input 'attic'" in caplog.text
        assert "hold: the node's file has one of this name as well" in caplog.text
        assert list(post.runner.learned()) == ["gone", "hold"]
        await post.runner.forget("gone")
        await post.runner.forget("hold")
        assert post.runner.learned() == {}
        assert post.runner.states() == {"hold": True}, "the one of the file"
        assert post.states == [("hold", True)]


def test_reflexes_that_cannot_be_are_refused_before_anything_runs(tmp_path: Path) -> None:
    """All that is wrong with them, at once."""
    wrong = ReflexSettings("wrong", Condition("climat", above=1), (Action("fann", True),))

    with pytest.raises(ConfigError) as caught:
        Post(tmp_path, wrong)

    assert len(caught.value.problems) == 2
    assert caught.value.problems[0].startswith("configuration: reflexes.wrong.when: there is no sensor")


async def test_nothing_is_heard_before_the_start_and_after_the_end(tmp_path: Path) -> None:
    """And what was due by then is not done."""
    post = Post(tmp_path, SOON)
    post.runner.hear(InputEvent("button", "pressed"))
    async with post:
        post.runner.hear(InputChanged("button", True))
        await post.runner.stop()
        await post.runner.stop()
        post.reads(30)
        await asyncio.sleep(0.1)  # twice as long as the reflex would have waited
        assert post.outputs()["fan"] is False


def test_a_slow_sensor_is_silent_later() -> None:
    """After three of its intervals; and one that says only what is new, after the time in which it repeats itself."""
    fast = DeviceSettings("fast", "climate", options={"interval_s": 10})
    slow = DeviceSettings("slow", "climate", options={"interval_s": 600})

    terse = DeviceSettings("terse", "climate", options={"filter": {"change": 0.5, "at_least_every_s": 900}})

    assert silences_of([*DEVICES[:3], fast, slow, terse]) == {"fast": 300, "slow": 1800, "terse": 930}


async def test_a_sensor_drives_a_reflex(tmp_path: Path) -> None:
    """From the reading to the pin, with nothing in between: no broker, no master, no model."""
    always = ReflexSettings("always", Condition("climate", "humidity", above=-1), (Action("fan", True),))
    post = Post(tmp_path, always)
    post.has_sensors = True
    async with post:
        await until(lambda: post.outputs()["fan"] is True, "the fan is on")


async def test_what_a_sensor_gave_before_the_start_counts(tmp_path: Path) -> None:
    """The next reading of a slow one may be an hour away."""
    always = ReflexSettings("always", Condition("climate", "humidity", above=-1), (Action("fan", True),))
    post = Post(tmp_path, always)
    await post.board.start()
    await post.board.read("climate")
    assert post.outputs()["fan"] is False

    post.runner.start()

    assert post.outputs()["fan"] is True
    await post.runner.stop()
    await post.board.stop()


async def test_what_the_store_cannot_hold_is_refused(tmp_path: Path) -> None:
    """An id that no topic could have."""
    async with Post(tmp_path) as post:
        with pytest.raises(ToolError, match=r"cannot be kept: .*id: a device id of"):
            await post.runner.learn(ReflexSettings("Not An Id", COOL.when, COOL.then))
        assert post.runner.specs() == ()
