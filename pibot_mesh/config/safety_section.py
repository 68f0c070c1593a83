"""What a node's file says of the safety of all its outputs."""

from __future__ import annotations

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.settings import SafetySettings


def safety_settings(draft: Draft) -> SafetySettings:
    """What holds for all outputs. An interlock of which anything was refused is left out.

    Whether its devices are outputs, the hardware knows: `pibot_mesh.hardware.safety_check`.
    """
    groups = draft.entries(("safety", "interlocks"))
    return SafetySettings(
        draft.number(("safety", "lost_after_s"), SafetySettings().lost_after_s),
        tuple(
            tuple(map(str, group))
            for index, group in enumerate(groups)
            if isinstance(group, list) and not draft.is_refused(("safety", "interlocks", index))
        ),
    )
