"""Requests in free words, from the topic to the reply: planned by a model, done by agents on nodes through the gateway.

Everything is real but the model, which is a script behind HTTP on loopback.
"""

from __future__ import annotations

import asyncio
import logging
import time
from pathlib import Path

import pytest

from pibot_mesh.config.settings import GatewaySettings
from pibot_mesh.errors import ErrorCode
from pibot_mesh.master.ledger import Ledger
from pibot_mesh.master.service import Master
from pibot_mesh.protocol.messages import Control, Limits, State
from pibot_mesh.testing import call, fail
from tests.brokers import needs_mosquitto, until
from tests.integration.programs import PIBOT, Terminal, environment
from tests.integration.thinking import KEY, Brain, said_to, thinking

pytestmark = needs_mosquitto

READ = {"id": "s1", "work": "device", "node": "attic", "tool": "sensor_read", "args": {"device": "air"}}
DO = {"id": "s1", "work": "device", "node": "cellar", "instruction": "See to the cellar."}
FAN_ON = call("output_set", device="fan", value="ON")


async def test_a_request_in_free_words_is_split_over_two_nodes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One step is a call; the other an agent run on a node without a key. The key is nowhere but in the master."""
    brain = Brain([READ, {**DO, "id": "s2", "after": ["s1"]}], [FAN_ON, "The fan runs."], "Fresh air is on its way.")
    with caplog.at_level(logging.DEBUG):
        async with thinking(tmp_path, brain) as mesh:
            request = await mesh.ask()
            reply = await mesh.reply(request)
            rows = mesh.master._ledger.usage("0000-00-00")
            output = mesh.nodes["cellar"].board.outputs()["fan"][0]
            heard = b"".join(message.payload for message in mesh.watcher.received)

    assert (reply.state, reply.engine, reply.text) == (State.COMPLETED, "llm", "Fresh air is on its way.")
    assert [(step.node, step.state, len(step.tool_calls)) for step in reply.results] == [
        ("attic", State.COMPLETED, 1),
        ("cellar", State.COMPLETED, 1),
    ]
    assert output is True
    assert "temperature" in said_to(brain.asked()[0])  # what the attic gave
    assert {(row.node, row.calls) for row in rows} == {("master", 2), ("cellar", 2)}
    assert (reply.usage.input, reply.usage.output) == (400, 40)
    types = [event.type for event in mesh.events(request)]
    assert types.index("request_planned") < types.index("message_delta") < types.index("request_ended")

    ledgers = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert KEY.encode() not in heard
    assert KEY.encode() not in ledgers
    assert KEY not in caplog.text
    assert all(request.key == KEY for request in brain.seen)


async def test_an_agent_is_steered_half_way(tmp_path: Path) -> None:
    """What a person says is heard before the model's next word."""
    brain = Brain([DO], [call("wait"), "Then I leave the fan as it is."], complexity="moderate")
    async with thinking(tmp_path, brain) as mesh:
        request = await mesh.ask()
        await until(mesh.tools.waiting.is_set, "the tool runs")
        mesh.control(request, Control("steer", text="leave the fan alone"))
        await mesh.event(request, "steered")
        mesh.tools.release.set()
        reply = await mesh.reply(request)

        told = await mesh.event(request, "message_taken")

    assert reply.state is State.COMPLETED
    assert (told.data["text"], told.data["node"]) == ("leave the fan alone", "cellar")
    assert brain.asked()[1].last == "leave the fan alone"


async def test_a_cancelled_agent_ends_its_tool_and_says_what_it_had_done(tmp_path: Path) -> None:
    """Within a second of the word; the fan that it had turned on is named, and nothing more is asked of the model."""
    brain = Brain([READ, {**DO, "id": "s2"}], [FAN_ON, call("wait")])
    async with thinking(tmp_path, brain) as mesh:
        request = await mesh.ask()
        await until(mesh.tools.waiting.is_set, "the tool runs")
        canceled_at = time.monotonic()
        mesh.control(request, Control("cancel", reason="enough"))
        reply = await mesh.reply(request)

    assert mesh.tools.ended_at is not None
    assert mesh.tools.ended_at - canceled_at < 1
    assert reply.state is State.CANCELED
    assert [(one.name, one.ok) for one in reply.results[1].tool_calls] == [("output_set", True), ("wait", False)]
    assert "fan" in reply.text
    assert len(brain.asked()) == 2


async def test_text_in_a_result_that_orders_the_model_about_opens_no_door(tmp_path: Path) -> None:
    """It is marked as data; and where the model obeys it nevertheless, a person is asked, who says no."""
    brain = Brain([DO], [call("page"), call("door_open"), "I was not allowed to open the door."])
    async with thinking(tmp_path, brain, ask=("actuate",)) as mesh:
        request = await mesh.ask()
        asked = await mesh.event(request, "approval_required")
        mesh.control(request, Control("approve", call="page"))  # a name that the model could have made up
        mesh.control(request, Control("deny", call=str(asked.data["call"]), reason="certainly not"))
        reply = await mesh.reply(request)

    assert (asked.data["tool"], asked.data["args"], asked.data["node"]) == ("door_open", {}, "cellar")
    assert mesh.tools.doors == 0
    assert brain.asked()[1].last.startswith('<data from="page">')
    assert brain.asked()[1].last.count("</data>") == 1
    assert "not approved: certainly not" in brain.asked()[2].last
    assert [one.name for one in reply.results[0].tool_calls if one.ok] == ["page"]


async def test_what_a_person_approves_is_done_once(tmp_path: Path) -> None:
    """The same word again, or the same call again, does not open a second door."""
    brain = Brain([DO], [call("door_open"), call("door_open"), "One is open."])
    async with thinking(tmp_path, brain, ask=("door_open",)) as mesh:
        request = await mesh.ask()
        first = await mesh.event(request, "approval_required")
        mesh.control(request, Control("approve", call=str(first.data["call"])))
        await mesh.event(request, "approval_answered", call=first.data["call"], granted=True)
        await until(lambda: len([e for e in mesh.events(request) if e.type == "approval_required"]) == 2, "the second")
        [second] = [e for e in mesh.events(request) if e.type == "approval_required" and e.data != first.data]
        mesh.control(request, Control("approve", call=str(first.data["call"])))
        mesh.control(request, Control("approve"))
        mesh.control(request, Control("deny", call=str(second.data["call"])))
        await mesh.reply(request)

    assert mesh.tools.doors == 1


async def test_a_call_of_the_plan_itself_waits_for_a_person_too(tmp_path: Path) -> None:
    """Before anything is sent to its node."""
    step = {"id": "s1", "work": "device", "node": "cellar", "tool": "door_open", "args": {}}
    async with thinking(tmp_path, Brain([step], words="The door is open."), ask=("actuate",)) as mesh:
        request = await mesh.ask()
        asked = await mesh.event(request, "approval_required", tool="door_open", node="cellar")
        assert mesh.tools.doors == 0
        mesh.control(request, Control("approve", call=str(asked.data["call"])))
        reply = await mesh.reply(request)

    assert (reply.state, reply.text, mesh.tools.doors) == (State.COMPLETED, "The door is open.", 1)


@pytest.mark.parametrize(("key", "doors"), [("y", 1), ("n", 0), ("\r", 0)])
async def test_who_asks_on_a_terminal_is_asked_there(tmp_path: Path, key: str, doors: int) -> None:
    """The very call is shown; only a yes is one."""
    step = {"id": "s1", "work": "device", "node": "cellar", "tool": "door_open", "args": {}}
    async with thinking(tmp_path, Brain([step], words="The door is open."), ask=("actuate",)) as mesh:
        args = [*PIBOT, "ask", "--broker", str(mesh.broker), "--root", mesh.root, "let some air in"]
        with Terminal(args, env=environment(tmp_path)) as terminal:
            await asyncio.to_thread(terminal.wait_for, r"cellar wants to call door_open\(\)")
            await asyncio.to_thread(terminal.wait_for, r"door_open\(.*\): approve\? \[y/N\]")
            terminal.type(key if key == "\r" else f"{key}\r")
            code = await asyncio.to_thread(terminal.wait)

    assert (code, mesh.tools.doors) == (0 if doors else 2, doors)
    assert "Traceback" not in terminal.text


async def test_a_simple_request_is_done_by_the_master_itself(tmp_path: Path) -> None:
    """With its own tools, and with a node's where it delegates; its own words are the answer."""
    brain = Brain(
        [{"id": "s1", "work": "query", "instruction": "What is it like in the attic?"}],
        [
            call("mesh_status"),
            call("delegate", node="attic", tool="sensor_read", args={"device": "air"}),
            "It is mild.",
        ],
        complexity="simple",
    )
    async with thinking(tmp_path, brain) as mesh:
        request = await mesh.ask("what is it like up there?")
        reply = await mesh.reply(request)

    assert (reply.text, reply.state) == ("It is mild.", State.COMPLETED)
    assert [(step.step, step.node) for step in reply.results] == [("s1", "master"), ("s2", "attic")]
    assert "temperature" in brain.asked()[2].last


async def test_what_sentences_know_needs_no_model(tmp_path: Path) -> None:
    """And a session knows what "it" was."""
    brain = Brain()
    async with thinking(tmp_path, brain) as mesh:
        first = await mesh.reply(await mesh.ask("turn on the fan on cellar", session="evening"))
        second = await mesh.reply(await mesh.ask("and now off again", session="evening"))
        is_on = mesh.nodes["cellar"].board.outputs()["fan"][0]

    assert (first.engine, second.engine, is_on) == ("offline", "offline", False)
    assert brain.seen == []


async def test_the_model_knows_what_was_said_before(tmp_path: Path) -> None:
    """As data, with the replies."""
    brain = Brain([READ], words="It is mild.")
    async with thinking(tmp_path, brain) as mesh:
        await mesh.reply(await mesh.ask("how does it feel up there?", session="evening"))
        await mesh.reply(await mesh.ask("and is that usual?", session="evening"))

    planned = [request for request in brain.seen if "make_plan" in str(request.body.get("tools"))]
    assert "how does it feel up there?" in planned[1].last
    assert "It is mild." in planned[1].last


# What goes wrong


async def test_a_planner_that_answers_nonsense(tmp_path: Path) -> None:
    """Three tries, each with all that was wrong; then one reply that says so. Nothing was done."""
    nonsense = call(
        "make_plan", complexity="simple", language="en", steps=[{"id": "s1", "work": "device", "tool": "fly"}]
    )
    brain = Brain(planning=["I would just do it.", nonsense, nonsense])
    async with thinking(tmp_path, brain) as mesh:
        reply = await mesh.reply(await mesh.ask())

    assert (reply.state, reply.results) == (State.REJECTED, ())
    assert reply.error is not None
    assert reply.error.code == ErrorCode.BAD_PLAN
    assert "fly" in reply.text
    assert len(brain.seen) == 3
    assert reply.usage.input == 300


async def test_a_node_that_goes_between_plan_and_dispatch(tmp_path: Path) -> None:
    """What had been done is said, and what was not, and why."""
    later = {"id": "s2", "work": "device", "node": "attic", "tool": "sensor_read", "args": {"device": "air"}}
    wait = {"id": "s1", "work": "device", "node": "cellar", "tool": "wait"}
    async with thinking(tmp_path, Brain([wait, {**later, "after": ["s1"]}])) as mesh:
        request = await mesh.ask(timeout_s=4.0)
        await until(mesh.tools.waiting.is_set, "the tool runs")
        await mesh.nodes["attic"].__aexit__(None, None, None)
        await until(lambda: "attic" not in mesh.master.pool.online(), "the attic has gone")
        mesh.tools.release.set()
        reply = await mesh.reply(request)

    assert [step.state for step in reply.results] == [State.COMPLETED, State.FAILED]
    assert reply.state is State.FAILED
    assert "attic is offline" in reply.text
    assert "cellar" in reply.text


async def test_a_tool_that_has_gone(tmp_path: Path) -> None:
    """It was on the card when the plan was made."""
    wait = {"id": "s1", "work": "device", "node": "cellar", "tool": "wait"}
    door = {"id": "s2", "work": "device", "node": "cellar", "tool": "door_open", "after": ["s1"]}
    async with thinking(tmp_path, Brain([wait, door])) as mesh:
        request = await mesh.ask()
        await until(mesh.tools.waiting.is_set, "the tool runs")
        cellar = mesh.nodes["cellar"]
        cellar.tools.remove("door_open")
        cellar._showing.tools_changed()
        await until(lambda: mesh.master.pool.tool("cellar", "door_open") is None, "the card has changed")
        mesh.tools.release.set()
        reply = await mesh.reply(request)

    assert reply.error is not None
    assert (reply.state, reply.error.code) == (State.FAILED, ErrorCode.UNKNOWN_TOOL)
    assert "door_open" in reply.text
    assert reply.results[0].state is State.COMPLETED


async def test_a_result_that_is_an_error(tmp_path: Path) -> None:
    """The person reads what the tool said."""
    step = {"id": "s1", "work": "device", "node": "cellar", "tool": "broken"}
    async with thinking(tmp_path, Brain([step])) as mesh:
        reply = await mesh.reply(await mesh.ask())

    assert reply.state is State.FAILED
    assert "the wire is loose" in reply.text


async def test_a_model_that_is_down_in_the_middle(tmp_path: Path) -> None:
    """The agent tries again, then gives up; what it had done stands in the reply."""
    brain = Brain([DO], [FAN_ON, *[fail(503) for _ in range(5)]])
    async with thinking(tmp_path, brain) as mesh:
        request = await mesh.ask()
        reply = await mesh.reply(request, timeout_s=30)
        retries = [event for event in mesh.events(request) if event.type == "retry"]

    assert reply.error is not None
    assert (reply.state, reply.error.code) == (State.FAILED, ErrorCode.MODEL_FAILED)
    assert len(retries) == 4
    assert [(one.name, one.ok) for one in reply.results[0].tool_calls] == [("output_set", True)]
    assert "fan" in reply.text


async def test_a_master_that_goes_in_the_middle_comes_back_to_its_agents(tmp_path: Path) -> None:
    """The node's run outlives it: its model call is tried again, and its result is awaited."""
    brain = Brain([DO], [call("wait"), "Done after all."], words="Done.")
    async with thinking(tmp_path, brain) as mesh:
        request = await mesh.ask()
        await until(mesh.tools.waiting.is_set, "the tool runs")
        await mesh.parties.aclose()
        mesh.tools.release.set()
        async with Master(mesh.master_settings()) as later:
            await later.wait_online("cellar")
            reply = await mesh.reply(request, timeout_s=30)

    assert (reply.state, reply.results[0].output.text) == (State.COMPLETED, "Done after all.")


async def test_a_request_that_may_use_little_gets_little(tmp_path: Path) -> None:
    """The agent ends with what it has, and the reply says which limit it met."""
    brain = Brain([DO], [call("page"), call("page"), call("page"), "?"])
    async with thinking(tmp_path, brain) as mesh:
        reply = await mesh.reply(await mesh.ask(limits=Limits(tokens=300)))

    assert reply.error is not None
    assert (reply.state, reply.error.code) == (State.FAILED, ErrorCode.BUDGET)
    assert reply.usage.input + reply.usage.output <= 110 * 4


async def test_a_node_may_ask_only_so_much(tmp_path: Path) -> None:
    """Its day's tokens are counted over requests; the next one is refused in words."""
    brain = Brain([DO], ["Done.", "never said"])
    async with thinking(tmp_path, brain, gateway=GatewaySettings(tokens_per_day=100)) as mesh:
        first = await mesh.reply(await mesh.ask())
        second = await mesh.reply(await mesh.ask())

    assert (first.state, second.state) == (State.COMPLETED, State.FAILED)
    assert second.error is not None
    assert "day" in second.error.message
    assert len(brain.thoughts) == 1


async def test_an_idle_mesh_asks_the_model_nothing(tmp_path: Path) -> None:
    """Not even when nodes come."""
    brain = Brain()
    async with thinking(tmp_path, brain) as mesh:
        count = len(mesh.watcher.received)
        await until(lambda: len(mesh.watcher.received) > count, "a health message", timeout_s=15)
        assert Ledger(tmp_path / "master" / "master.sqlite").usage("0000-00-00") == []

    assert brain.seen == []
