"""What the master does itself: tell of the mesh, from what the nodes last said."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pibot_mesh.agent.tools import Tool, ToolContext
from pibot_mesh.master.pool import Member, Pool
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, ToolSpec


def mesh_tools(pool: Pool, examples: Callable[[str], list[str]]) -> list[Tool]:
    """The tools of a master that knows *pool*. *examples* gives sentences to try, in a language."""

    async def mesh_status(args: Mapping[str, JSON], _: ToolContext) -> Output:
        return Output(data={"nodes": {node: _status(member) for node, member in _chosen(pool, args)}})

    async def mesh_list(args: Mapping[str, JSON], _: ToolContext) -> Output:
        return Output(data={"nodes": {node: _inventory(member) for node, member in _chosen(pool, args)}})

    async def show_help(args: Mapping[str, JSON], _: ToolContext) -> Output:
        return Output(data={"examples": examples(str(args.get("language", "en")))})

    return [
        Tool(
            _spec("mesh_status", "Which nodes are online, and how busy they are.", node="One node only."), mesh_status
        ),
        Tool(_spec("mesh_list", "The devices and labels of every node.", node="One node only."), mesh_list),
        Tool(_spec("help", "Sentences that can be said.", language="Such as en or zh-cn."), show_help),
    ]


def _spec(name: str, description: str, **optional_texts: str) -> ToolSpec:
    properties = {key: {"type": "string", "description": text} for key, text in optional_texts.items()}
    return ToolSpec(
        name, description, {"type": "object", "properties": properties, "additionalProperties": False}, timeout_s=10.0
    )


def _chosen(pool: Pool, args: Mapping[str, JSON]) -> list[tuple[str, Member]]:
    return [(node, member) for node, member in sorted(pool.members.items()) if args.get("node") in (None, node)]


def _status(member: Member) -> dict[str, JSON]:
    status: dict[str, JSON] = {"online": member.is_usable, "running": len(member.open_tasks)}
    if member.card is not None:
        status["devices"] = len(member.card.devices)
    if member.is_usable:
        status["health"] = dict(member.health)
    return status


def _inventory(member: Member) -> dict[str, JSON]:
    devices = member.card.devices if member.card else ()
    inventory: dict[str, JSON] = {
        "online": member.is_usable,
        "labels": list(member.card.labels) if member.card else [],
    }
    for key, direction in (("outputs", "out"), ("sensors", "sensor"), ("inputs", "in")):
        inventory[key] = [device.name or device.id for device in devices if device.direction == direction]
    return inventory
