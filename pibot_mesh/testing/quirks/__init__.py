"""What OpenAI-compatible services really send and refuse, by name, and what a right client makes of it.

quirk = QUIRKS["call ids change in the middle (Kimi)"]
async with FakeModelServer([quirk.answer]) as server:
    ...                                    # whatever asks server.base_url gets quirk.calls
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from pibot_mesh.testing.quirks.quirk import PLAIN as PLAIN, Quirk as Quirk
from pibot_mesh.testing.quirks.refusals import FAILURES, REFUSALS
from pibot_mesh.testing.quirks.streams import CALLS, CHUNKS, FINISHES, REASONING, USAGES

QUIRKS: Final[Mapping[str, Quirk]] = MappingProxyType(
    {**CALLS, **CHUNKS, **FINISHES, **USAGES, **REASONING, **FAILURES, **REFUSALS}
)
"""Every one that is known, by its name."""
