"""A node's own skills, from the file to the retained card and back, over a real Mosquitto; and ``pibot skills``."""

from __future__ import annotations

import asyncio
import json
import re
import time
import uuid
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pibot_mesh.cli.main import pibot
from pibot_mesh.config.settings import NodeSettings
from pibot_mesh.node.service import Node
from pibot_mesh.protocol.codec import decode
from pibot_mesh.protocol.messages import NodeCard, NodeEvent, Result as TaskResult
from tests.brokers import Mosquitto, Recorder, needs_mosquitto, until

WITHIN_S = 2.0
"""How soon a changed file shows on the card."""
SKILL = '''
from pibot_mesh.agent.tools import tool

@tool
def greet({argument}: str = "you") -> str:
    """Say hello."""
    return f"hello {{{argument}}}"
'''


class Mesh:
    """A node with a folder of skills, and somebody who sees all that it publishes."""

    def __init__(self, node: Node, watcher: Recorder, root: str, folder: Path) -> None:
        self.node, self.folder = node, folder
        self._watcher, self._root = watcher, root

    def cards(self) -> list[NodeCard]:
        return [decode(NodeCard, payload) for payload in self._payloads("card")]

    def tools(self) -> dict[str, Mapping[str, object]]:
        """The tools on the card that the broker keeps: name → schema."""
        return {spec.name: spec.parameters for spec in self.cards()[-1].tools}

    def health(self) -> dict[str, float]:
        health: dict[str, float] = json.loads(self._payloads("health")[-1])
        return health

    def events(self) -> list[NodeEvent]:
        return [decode(NodeEvent, payload) for payload in self._payloads("event")]

    async def call(self, tool: str, **args: object) -> TaskResult:
        task = {"id": uuid.uuid4().hex, "request": "r1", "kind": "call", "tool": tool, "args": args}
        self._publish("task", task)
        topic = f"{self._root}/node/n1/task/{task['id']}/result"
        await until(lambda: self._on(topic), f"a result of {tool}")
        return decode(TaskResult, self._on(topic)[0])

    async def refusal(self, tool: str) -> str:
        task = {"id": uuid.uuid4().hex, "request": "r1", "kind": "call", "tool": tool, "args": {}}
        self._publish("task", task)
        topic = f"{self._root}/node/n1/task/{task['id']}/event"
        await until(lambda: self._on(topic), f"a refusal of {tool}")
        event = json.loads(self._on(topic)[0])
        assert event["type"] == "task_rejected"
        return str(event["error"]["code"])

    def reload(self) -> None:
        self._publish("control", {"action": "reload"})

    def _publish(self, topic: str, message: Mapping[str, object]) -> None:
        self._watcher.client.publish(f"{self._root}/node/n1/{topic}", json.dumps(message).encode(), qos=1)

    def _payloads(self, topic: str) -> list[bytes]:
        return self._on(f"{self._root}/node/n1/{topic}")

    def _on(self, topic: str) -> list[bytes]:
        return [message.payload for message in self._watcher.received if message.topic == topic]


@asynccontextmanager
async def meshed(state_dir: Path, *, health_interval_s: float = 10.0) -> AsyncIterator[Mesh]:
    root = f"test-{uuid.uuid4().hex[:8]}"
    with Mosquitto() as broker:
        async with Recorder(broker.settings, "watcher", f"{root}/#") as watcher:
            watcher.client.publish(f"{root}/master/status", b"online", qos=1, retain=True)
            node = Node(
                NodeSettings(
                    "n1",
                    root=root,
                    broker=broker.settings,
                    state_dir=state_dir,
                    simulate=True,
                    health_interval_s=health_interval_s,
                )
            )
            async with node:
                mesh = Mesh(node, watcher, root, state_dir / "skills")
                await until(mesh.cards, "the first card")
                yield mesh


@needs_mosquitto
async def test_a_skill_comes_changes_and_goes_with_its_file(tmp_path: Path) -> None:
    """On the retained card, within two seconds each time; a task calls what is there, and nothing else."""
    async with meshed(tmp_path) as mesh:
        assert "greet" not in mesh.tools()
        path = mesh.folder / "greeting.py"
        path.parent.mkdir()

        path.write_text(SKILL.format(argument="who"))
        await until(lambda: "greet" in mesh.tools(), "the tool comes", timeout_s=WITHIN_S)
        assert (await mesh.call("greet", who="world")).output.text == "hello world"

        path.write_text(SKILL.format(argument="whom"))
        await until(lambda: "whom" in str(mesh.tools().get("greet")), "the schema changes", timeout_s=WITHIN_S)
        assert (await mesh.call("greet", whom="all")).output.text == "hello all"

        path.unlink()
        await until(lambda: "greet" not in mesh.tools(), "the tool goes", timeout_s=WITHIN_S)
        assert await mesh.refusal("greet") == "unknown_tool"

        cards = mesh.cards()
        assert len(cards) == 4, "a card is published when it is another one, and at no other time"
        assert [card.seq for card in cards] == sorted({card.seq for card in cards})


@needs_mosquitto
async def test_a_broken_skill_is_named_and_the_rest_works(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """In the log, once; the health counts it."""
    (tmp_path / "skills").mkdir()
    path = tmp_path / "skills" / "broken.py"
    path.write_text("import sys\n\nsys.exit(1)\n")
    (tmp_path / "skills" / "greeting.py").write_text(SKILL.format(argument="who"))
    async with meshed(tmp_path, health_interval_s=1) as mesh:
        assert "greet" in mesh.tools()
        assert mesh.health()["broken_skills"] == 1
        assert (await mesh.call("greet")).output.text == "hello you"
        path.unlink()
        await until(lambda: mesh.health()["broken_skills"] == 0, "the health says that it is mended")
        assert 0 <= mesh.health()["cpu_percent"] <= 100
        assert len(mesh.cards()) == 1, "nothing about the tools has changed"

    named = [record.getMessage() for record in caplog.records if "broken.py" in record.getMessage()]
    assert named == [f"n1: a skill is left out: {path}:3: it ends the program (SystemExit) where it is loaded"]


@needs_mosquitto
async def test_a_task_goes_on_when_its_skill_is_removed(tmp_path: Path) -> None:
    """It had begun, and its result is as if nothing had happened."""
    (tmp_path / "skills").mkdir()
    path = tmp_path / "skills" / "slow.py"
    text = SKILL.format(argument="who").replace("return", "import time\n    time.sleep(2.5)\n    return")
    path.write_text(text)
    async with meshed(tmp_path) as mesh:
        calling = asyncio.create_task(mesh.call("greet", who="world"))
        await until(lambda: mesh.node._core.running, "the task runs")
        path.unlink()
        await until(lambda: "greet" not in mesh.tools(), "the tool goes", timeout_s=WITHIN_S)
        result = await calling

    assert (result.state, result.output.text) == ("completed", "hello world")
    assert result.tool_calls[0].effect == "read"


@needs_mosquitto
async def test_reload_loads_everything_again(tmp_path: Path) -> None:
    """What a skill read when it was loaded has changed, and its file has not."""
    (tmp_path / "skills").mkdir()
    data = tmp_path / "words"
    data.write_text("Say hello.")
    skill = SKILL.format(argument="who").replace("@tool", f"@tool(description=open({str(data)!r}).read())")
    (tmp_path / "skills" / "greeting.py").write_text(skill)
    async with meshed(tmp_path) as mesh:
        data.write_text("Say good evening.")
        mesh.reload()
        await until(
            lambda: any(spec.description == "Say good evening." for spec in mesh.cards()[-1].tools), "the new words"
        )


@needs_mosquitto
async def test_a_timer_is_told_to_the_mesh(tmp_path: Path) -> None:
    """Also one that ended while the node was off."""
    async with meshed(tmp_path) as mesh:
        await mesh.call("timer_set", name="tea", for_s=1, text="green")
        await until(mesh.events, "the end of the timer")
        [event] = mesh.events()
        assert (event.event_type, event.device) == ("timer_finished", "timer")
        assert event.data["name"] == "tea"
        assert event.data["text"] == "green"
        await mesh.call("timer_set", name="eggs", for_s=1)
    ended_at = time.time() + 1
    await until(lambda: time.time() > ended_at + 1, "the timer's time has come")
    async with meshed(tmp_path) as mesh:
        await until(mesh.events, "the end of the other timer")
        [event] = mesh.events()
        assert event.data["name"] == "eggs"
        assert event.data["late_s"] >= 1


# pibot skills


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PIBOT_STATE_DIR", str(tmp_path))
    monkeypatch.setenv("NO_COLOR", "1")
    return tmp_path / "skills"


def run(*args: str) -> Result:
    return CliRunner().invoke(pibot, ["skills", *args])


@pytest.mark.parametrize("more", [(), ("--md",)])
async def test_a_new_skill_works_at_once(folder: Path, more: tuple[str, ...]) -> None:
    """Where the node looks, checked without complaint, listed with its tools, and right about the dew."""
    written = run("new", "garden-dew", *more)
    assert written.exit_code == 0, written.output
    path = folder / ("garden-dew" if more else "garden-dew.py")
    assert written.output.startswith(f"{path}: written\n")
    assert f"pibot skills check {path}" in written.output

    checked = run("check", str(path))
    assert checked.exit_code == 0, checked.output
    assert "garden_dew_dew_point (read): The temperature in °C at which dew forms" in checked.output
    assert "humidity_percent: number from 1 to 100: Its relative humidity." in checked.output

    listed = run("list")
    assert re.search(
        r"^garden-dew +garden_dew_dew_point \(read\) +" + re.escape(str(path)), listed.output, re.MULTILINE
    )
    node = Node(NodeSettings("n1", state_dir=folder.parent, simulate=True))
    node._skills.loader.refresh()
    args = {"temperature_c": 20.0, "humidity_percent": 50.0}
    assert (await node.tools.call("garden_dew_dew_point", args)).data == {"dew_point_c": 9.3}
    assert ("skill_read" in node.tools) is bool(more)


def test_a_new_skill_takes_nobody_s_place(folder: Path) -> None:
    """Nor has it a name that could not be one."""
    run("new", "garden", "--folder", str(folder))
    before = (folder / "garden.py").read_text()
    for args in (("garden",), ("garden", "--md")):
        result = run("new", *args)
        assert result.exit_code == 2
        assert "is there already" in result.output
    assert (folder / "garden.py").read_text() == before
    for name in ("../x", "Garden", "", "1st"):
        assert "use 1 to 32 small letters" in run("new", name).output


def test_the_list_names_what_is_shipped_and_what_is_broken(folder: Path) -> None:
    """For people and for programs; without a skill of one's own it says how to get one."""
    empty = run("list")
    assert f"no skill of your own in {folder}: pibot skills new NAME" in empty.output
    assert re.search(r"^timers +timer_set \(write\) +shipped", empty.output, re.MULTILINE)
    folder.mkdir()
    (folder / "broken.py").write_text("undefined\n")
    (folder / "greeting.py").write_text(SKILL.format(argument="who"))

    shown, data = run("list"), json.loads(run("list", "--json").output)

    assert shown.exit_code == 0
    problem = "NameError: name 'undefined' is not defined"
    assert f"left out: {folder / 'broken.py'}:1: {problem}" in shown.output
    assert data["broken"] == [{"skill": "broken", "file": str(folder / "broken.py"), "line": 1, "text": problem}]
    assert data["skills"][-1] == {
        "name": "greeting",
        "path": str(folder / "greeting.py"),
        "description": "",
        "has_text": False,
        "tools": [{"name": "greet", "effect": "read", "description": "Say hello."}],
    }


def test_the_list_follows_a_node_s_file(folder: Path, tmp_path: Path) -> None:
    """Its folders, its devices, and what of the shipped is on; a folder that is named goes before it."""
    for name in ("one", "two"):
        run("new", name, "--folder", str(tmp_path / name))
    config = tmp_path / "node.yaml"
    config.write_text(
        "skills: {folders: [one], shipped: [devices], programs: [df]}\ndevices: {fan: {kind: switch, pin: 17}}\n"
    )

    by_file = [skill["name"] for skill in json.loads(run("list", str(config), "--json").output)["skills"]]
    by_folder = json.loads(run("list", str(config), "--folder", str(tmp_path / "two"), "--json").output)["skills"]

    assert by_file == ["devices", "shell", "one"]
    assert by_folder[-1]["name"] == "two"


def test_a_check_says_all_that_is_wrong(folder: Path) -> None:
    """In one skill or in a folder of them, with file and line; it ends with 2."""
    folder.mkdir()
    (folder / "a.py").write_text(SKILL.format(argument="who").replace("who: str", "who: set"))
    (folder / "b.py").write_text("x = (\n")
    (folder / "c.py").write_text(SKILL.format(argument="who").replace("def greet", "def download"))
    (folder / "fine.py").write_text(SKILL.format(argument="who"))

    result = run("check", str(folder))

    assert result.exit_code == 2
    assert f"{folder / 'fine.py'}: ok" in result.output
    assert "who: string, optional" in result.output
    assert re.search(rf"^{folder / 'a.py'}:\d+: function greet\(who\): set cannot be expressed", result.output, re.M)
    assert f"{folder / 'b.py'}:1: not valid Python: '(' was never closed" in result.output
    assert f"{folder / 'c.py'}: the tool download is one of the shipped skill download: rename it" in result.output
    assert run("check", str(folder / "b.py")).exit_code == 2
    assert run("check", str(folder / "fine.py")).exit_code == 0


@pytest.mark.parametrize(("name", "words"), [("nothing", "there is no such file"), ("empty", "there is no skill in")])
def test_a_check_of_nothing_says_so(folder: Path, name: str, words: str) -> None:
    """It would be taken for a good answer."""
    (folder / "empty").mkdir(parents=True)

    result = run("check", str(folder / name))

    assert result.exit_code == 2
    assert words in result.output


def test_the_words_of_a_schema_are_short(folder: Path) -> None:
    """Choices, several kinds, and what may be anything."""
    folder.mkdir()
    (folder / "odd.py").write_text(
        "from typing import Any, Literal\nfrom pibot_mesh.agent.tools import tool\n"
        "@tool\ndef odd(way: Literal['up', 'down'], much: int | str, what: Any = 1) -> None:\n    '''Be odd.'''\n"
    )

    output = run("check", str(folder / "odd.py")).output

    assert "way: one of up, down\n" in output
    assert "much: integer or string\n" in output
    assert "what: any value, optional\n" in output
