"""The master's own tools tell of the mesh."""

from __future__ import annotations

from pibot_mesh.agent.tools import ToolRegistry
from pibot_mesh.master.pool import Pool
from pibot_mesh.master.tools import mesh_tools
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import DeviceSpec, NodeCard

DEVICES = (
    DeviceSpec("fan", "out", "fan", name="big fan"),
    DeviceSpec("climate", "sensor", "climate"),
    DeviceSpec("button", "in", "button"),
)


def tools() -> ToolRegistry:
    """One node that is online, one that has only a card, one of which nothing is known."""
    pool = Pool()
    pool["n2"].is_online = True
    pool["n2"].card = NodeCard("n2", "b", "1", labels=("attic",), devices=DEVICES)
    pool["n2"].health = {"load1": 0.5}
    pool["n2"].open_tasks["t1"] = None
    pool["n1"].card = NodeCard("n1", "b", "1")
    pool["n3"].health = {"load1": 9.0}
    return ToolRegistry(mesh_tools(pool, lambda language: [f"a sentence in {language}"]))


async def say(tool: str, **args: JSON) -> JSON:
    return (await tools().call(tool, args)).data


async def test_mesh_status_tells_who_is_online_and_how_busy() -> None:
    """The health of a node that is gone is old, and not told."""
    assert await say("mesh_status") == {
        "nodes": {
            "n1": {"online": False, "running": 0, "devices": 0},
            "n2": {"online": True, "running": 1, "devices": 3, "health": {"load1": 0.5}},
            "n3": {"online": False, "running": 0},
        }
    }


async def test_mesh_list_tells_what_is_where() -> None:
    """By the words that sentences use."""
    assert await say("mesh_list", node="n2") == {
        "nodes": {
            "n2": {
                "online": True,
                "labels": ["attic"],
                "outputs": ["big fan"],
                "sensors": ["climate"],
                "inputs": ["button"],
            }
        }
    }
    assert (await say("mesh_list", node="n3"))["nodes"]["n3"]["outputs"] == []


async def test_a_node_that_nobody_knows_is_not_made_up() -> None:
    """Empty, not invented."""
    assert await say("mesh_status", node="n9") == {"nodes": {}}


async def test_help_gives_sentences_in_the_language_that_was_asked_for() -> None:
    """English where none was."""
    assert await say("help") == {"examples": ["a sentence in en"]}
    assert await say("help", language="zh-cn") == {"examples": ["a sentence in zh-cn"]}
