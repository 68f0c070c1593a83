"""What is wrong with a node's settings beyond its file's schema: devices, the rules for outputs, reflexes. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from pibot_mesh.config.settings import NodeSettings
from pibot_mesh.config.source import Problem
from pibot_mesh.errors import ToolError
from pibot_mesh.hardware.kinds import KINDS, check, spec
from pibot_mesh.hardware.output_values import rule_of
from pibot_mesh.hardware.safety_check import check_safety
from pibot_mesh.node.reflex_check import check_reflexes


def check_node(settings: NodeSettings) -> list[Problem]:
    """Everything that is wrong, at paths of the file. Empty where nothing is.

    Reflexes are looked at once the devices that they name are right: what is said of them would else follow from that.
    """
    problems = check(settings.devices, simulate=settings.simulate)
    is_reflexes_turn = not problems
    problems += check_safety(settings.devices, settings.safety)
    if is_reflexes_turn:
        problems += check_reflexes(settings.reflexes, [spec(device) for device in settings.devices])
        problems += _check_times(settings)
    return problems


def _check_times(settings: NodeSettings) -> Iterator[Problem]:
    """What is set for a time must not be what it goes back to."""
    rules = {
        device.id: rule_of(device, settings.safety)
        for device in settings.devices
        if KINDS[device.kind].direction == "out"
    }
    for reflex in settings.reflexes:
        for key, actions in (("then", reflex.then), ("else", reflex.otherwise)):
            for action in actions:
                rule = rules.get(action.device)
                if action.for_s is None or rule is None:
                    continue
                with suppress(ToolError):  # a value that does not fit was told
                    if rule.fit(action.value) == rule.safe:
                        text = f"{action.device} goes back to this by itself ('safe'): leave out the time"
                        yield Problem(("reflexes", reflex.id, key, action.device, "for_s"), text)
