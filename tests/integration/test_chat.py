"""``pibot chat`` and ``pibot model test``, as a person has them, against a server on loopback."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from pibot_mesh.testing import FakeModelServer, Pause, call, fail, never, say
from pibot_mesh.testing.answers import chunk, stream
from pibot_mesh.testing.model_server import SeenRequest
from tests.integration.programs import PIBOT, Program, Terminal, environment

KEY = "sk-not-a-real-key-0123456789"
SKILL = '''
from pibot_mesh.agent.tools import tool


@tool
def greet(name: str) -> str:
    """Greet somebody."""
    return f"{word}, {{name}}"
'''

LOUD = """from pibot_mesh.agent.tools import tool
@tool
def loud() -> str:
    "Shout."
    print("HEY")
    return 1 / 0
"""


def chat(server: FakeModelServer, *more: str) -> list[str]:
    """The command line."""
    return [*PIBOT, "chat", "--provider", "custom", "--model", "m", "--base-url", server.base_url, *more]


def skill(word: str) -> str:
    """A skill that greets with *word*."""
    return SKILL.format(word=word).replace("{{", "{").replace("}}", "}")


async def run(args: Sequence[str], home: Path, *typed: str, **env: str) -> tuple[int, str, str]:
    """Run a program to its end, with *typed* lines as its input: exit code, output, errors."""

    def work() -> tuple[int, str, str]:
        with Program(args, env=environment(home, PIBOT_API_KEY=KEY, **env)) as program:
            assert program.process.stdin is not None
            for line in typed:
                program.say(line)
            program.process.stdin.close()
            return program.wait(), program.out, program.err

    return await asyncio.to_thread(work)


async def test_one_text_is_done_and_only_the_answer_goes_to_the_output(tmp_path: Path) -> None:
    """Tool calls are shown on standard error as they happen."""
    script = [say("I write it.", call("file_write", path="note.txt", text="milk")), say("Noted.")]
    async with FakeModelServer(script) as server:
        code, out, err = await run(chat(server, "note: milk"), tmp_path)

    assert (code, out) == (0, "I write it.\nNoted.\n")
    assert "→ file_write path=note.txt, text=milk" in err
    assert "← file_write: 4 bytes" in err
    [written] = tmp_path.rglob("note.txt")
    assert written.read_text() == "milk"
    assert "pibot" in str(written.parent), "in a workspace of its own, not where the command was typed"


async def test_lines_of_a_pipe_are_runs_of_one_conversation(tmp_path: Path) -> None:
    """One after another; the model remembers."""
    async with FakeModelServer([say("Hello."), say("Ada.")]) as server:
        code, out, _ = await run(chat(server), tmp_path, "I am Ada", "who am I?")

    assert (code, out) == (0, "Hello.\nAda.\n")
    assert [message["content"] for message in server.requests[1].messages[1:]] == ["I am Ada", "Hello.", "who am I?"]


async def test_json_prints_the_events(tmp_path: Path) -> None:
    """And nothing else."""
    async with FakeModelServer([say(call("memory_read")), say("Nothing.")]) as server:
        code, out, err = await run(chat(server, "--json", "what do you know?"), tmp_path)

    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [event["type"] for event in events] == [
        *["run_start", "turn_start", "message_start", "message_end", "tool_start", "tool_end", "turn_end"],
        *["turn_start", "message_start", "message_delta", "message_end", "turn_end", "run_end"],
    ]
    assert events[-1]["outcome"]["text"] == "Nothing."
    assert KEY not in out + err


async def test_a_run_that_fails_says_why_and_ends_with_2(tmp_path: Path) -> None:
    """In plain words, without the key."""
    async with FakeModelServer([fail(401, f"invalid key {KEY}")]) as server:
        code, out, err = await run(chat(server, "hello"), tmp_path)

    assert (code, out) == (2, "")
    assert "failed:" in err
    assert "PIBOT_API_KEY" in err
    assert KEY not in err


async def test_without_anything_to_do_it_ends(tmp_path: Path) -> None:
    """No input is no reason to wait; an empty text is a mistake."""
    async with FakeModelServer([]) as server:
        assert (await run(chat(server), tmp_path))[0] == 0
        code, _, err = await run(chat(server, ""), tmp_path)
    assert code == 2
    assert "say what you want" in err


async def test_what_a_skill_prints_does_not_spoil_the_events(tmp_path: Path) -> None:
    """And a bug of its is told in one line, with its place."""
    folder = tmp_path / "skills"
    folder.mkdir()
    (folder / "loud.py").write_text(LOUD)
    async with FakeModelServer([say(call("loud")), say("I see.")]) as server:
        code, out, err = await run(chat(server, "--json", "--skills", str(folder), "go"), tmp_path)

    events = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert "HEY" in err
    assert "Traceback" not in err
    [end] = [event for event in events if event["type"] == "tool_end"]
    assert end["text"] == "loud broke: ZeroDivisionError: division by zero (loud.py:6)"


async def test_ctrl_c_ends_what_runs(tmp_path: Path) -> None:
    """At once, with what there is, and with the exit code of shells."""
    async with FakeModelServer([stream(chunk({"content": "So far\n"}), Pause(60))]) as server:

        def work() -> tuple[int, str, str]:
            with Program(chat(server, "go on"), env=environment(tmp_path)) as program:
                program.wait_for("So far")
                program.send(signal.SIGINT)
                return program.wait(5), program.out, program.err

        code, out, err = await asyncio.to_thread(work)

    assert (code, out) == (130, "So far\n")
    assert "canceled: Ctrl-C" in err


async def test_a_skill_is_loaded_again_when_it_changed(tmp_path: Path) -> None:
    """Between two runs of one chat; a broken one is named, and the rest works."""
    folder = tmp_path / "skills"
    folder.mkdir()
    (folder / "greeting.py").write_text(skill("Hello"))
    (folder / "bad.py").write_text("def (")

    def answer(request: SeenRequest) -> object:
        if request.messages[-1]["role"] == "user":
            if request.last == "again":
                (folder / "greeting.py").write_text(skill("Good evening"))
            return say("Now.") if request.last == "again" else say(call("greet", name="Ada"))
        return say(request.last)

    async with FakeModelServer(answer) as server:  # type: ignore[arg-type]  # the answers are of one kind
        code, out, err = await run(chat(server, "--skills", str(folder)), tmp_path, "greet", "again", "greet")

    assert (code, out.splitlines()) == (0, ["Hello, Ada", "Now.", "Good evening, Ada"])
    assert err.count("bad.py") == 1


async def test_on_a_terminal_what_is_typed_while_it_works_steers(tmp_path: Path) -> None:
    """The answer grows above the prompt; Ctrl-C ends the run, and a second one leaves."""
    gate = asyncio.Event()
    script = [stream(chunk({"content": "Looking left"}), gate), say("Now to the right.\n"), never()]
    loop = asyncio.get_running_loop()
    async with FakeModelServer(script) as server:

        def work() -> int:
            with Terminal(chat(server), env=environment(tmp_path)) as terminal:
                terminal.wait_for("/help says more")
                terminal.type("look\r")
                terminal.wait_for("Looking left")
                terminal.type("to the right\r")
                terminal.wait_for("to the right")
                loop.call_soon_threadsafe(gate.set)
                terminal.wait_for("Now to the right.")
                terminal.type("/tools\r")
                terminal.wait_for("file_read")
                terminal.type("sleep\r")
                asyncio.run_coroutine_threadsafe(server.asked(3), loop).result(10)
                terminal.type("\x03")
                terminal.wait_for("canceled: Ctrl-C")
                for _ in range(5):  # one that comes before the prompt is there again still belongs to the run
                    terminal.type("\x03")
                    with suppress(AssertionError):
                        return terminal.wait(2.0)
                return terminal.wait()

        assert await asyncio.to_thread(work) == 0

    assert server.requests[1].last == "to the right"
    history = next(tmp_path.rglob("chat/history")).read_text()
    assert "+look" in history


async def test_model_test_says_that_it_works(tmp_path: Path) -> None:
    """With one short request and one tool call."""
    args = [*PIBOT, "model", "test", "--provider", "custom", "--model", "m", "--base-url"]
    async with FakeModelServer([say("pong"), say(call("add", a=2, b=3))]) as server:
        code, out, _ = await run([*args, server.base_url], tmp_path)

    assert code == 0
    assert '✓ it answers "pong"' in out
    assert "✓ it calls tools: add(a=2, b=3)" in out
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        (fail(401, "bad key"), "wants a right key"),
        (fail(404, "model m does not exist"), "check address and model name"),
        (fail(429, "quota", code="insufficient_quota"), "nothing left"),
    ],
)
async def test_model_test_says_what_is_wrong(tmp_path: Path, answer: object, says: str) -> None:
    """And ends with 2; as JSON too."""
    args = [*PIBOT, "model", "test", "--provider", "custom", "--model", "m", "--base-url"]
    async with FakeModelServer(lambda _: answer) as server:  # type: ignore[arg-type, return-value]
        code, out, err = await run([*args, server.base_url], tmp_path)
        json_code, as_json, _ = await run([*args, server.base_url, "--json"], tmp_path)

    assert (code, json_code) == (2, 2)
    assert says in out
    assert json.loads(as_json)["findings"][0]["verdict"] == "wrong"
    assert KEY not in out + err + as_json


async def test_model_test_says_what_is_missing(tmp_path: Path) -> None:
    """Without a key nothing is asked; without an address there is nobody to ask."""
    code, out, err = await run([*PIBOT, "model", "test"], tmp_path)
    assert code == 2
    assert "VOLC_API_KEY" in out + err
    code, out, err = await run([*PIBOT, "model", "test", "--provider", "custom"], tmp_path)
    assert code == 2
    assert "base_url" in out + err
