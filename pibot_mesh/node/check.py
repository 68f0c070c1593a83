"""What is wrong with a node's settings beyond its file's schema: devices, the rules for outputs, reflexes. Pure."""

from __future__ import annotations

from pibot_mesh.config.settings import NodeSettings
from pibot_mesh.config.source import Problem
from pibot_mesh.hardware.kinds import KINDS, check, spec
from pibot_mesh.hardware.output_values import rule_of
from pibot_mesh.hardware.safety_check import check_safety
from pibot_mesh.node.reflex_check import check_reflexes, check_times


def check_node(settings: NodeSettings) -> list[Problem]:
    """Everything that is wrong, at paths of the file. Empty where nothing is.

    Reflexes are looked at once the devices that they name are right: what is said of them would else follow from that.
    """
    problems = check(settings.devices, simulate=settings.simulate)
    is_reflexes_turn = not problems
    problems += check_safety(settings.devices, settings.safety)
    if is_reflexes_turn:
        problems += check_reflexes(settings.reflexes, [spec(device) for device in settings.devices])
        outputs = [device for device in settings.devices if KINDS[device.kind].direction == "out"]
        rules = {device.id: rule_of(device, settings.safety) for device in outputs}
        problems += check_times(settings.reflexes, rules)
    return problems
