"""What tests of programs that use the mesh need: models that play a script, and the cores on a clock that is moved.

`ScriptedModel` needs no sockets; `FakeModelServer` is a service on loopback that also misbehaves as real ones do, and
`QUIRKS` names how.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pibot_mesh.testing.answers import (
        HttpAnswer as HttpAnswer,
        fail as fail,
        never as never,
        raw as raw,
        say as say,
        stream as stream,
    )
    from pibot_mesh.testing.model_server import FakeModelServer as FakeModelServer, SeenRequest as SeenRequest
    from pibot_mesh.testing.quirks import QUIRKS as QUIRKS, Quirk as Quirk
    from pibot_mesh.testing.scripted import Pause as Pause, ScriptedModel as ScriptedModel, call as call

_MODULES = {
    "answers": ("HttpAnswer", "fail", "never", "raw", "say", "stream"),
    "model_server": ("FakeModelServer", "SeenRequest"),
    "quirks": ("QUIRKS", "Quirk"),
    "scripted": ("Pause", "ScriptedModel", "call"),
}
_HOMES = {name: f"{__name__}.{module}" for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> object:
    """Load what is asked for, and no more: the package alone is cheap."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
