"""``download``: a file from the web into the workspace. What does the work is loaded with the first download."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from pibot_mesh.agent.builtin.files import Workspace
from pibot_mesh.agent.tools import Tool, ToolContext
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output, ToolSpec

if TYPE_CHECKING:
    from pibot_mesh.skills.fetch import Fetch, Fetched

DEFAULT_MB: Final = 100
MAX_MB: Final = 10_000
_LOOK_EVERY_S: Final = 0.1
_TIMEOUT_S: Final = 600.0


def download_tools(workspace: Path) -> list[Tool]:
    """``download``, which writes inside *workspace* only."""

    inside = Workspace(workspace)

    def download(args: Mapping[str, JSON], context: ToolContext) -> Output:
        from pibot_mesh.skills.fetch import MIB, Fetch, check_url

        check_url(str(args["url"]))
        *above, name = inside.resolve(str(args["file"])) or ("",)
        if not name:
            raise ToolError(f"{args['file']!r} is the workspace itself: name a file", code=ErrorCode.BAD_ARGUMENTS)
        max_bytes = int(float(args.get("max_mb", DEFAULT_MB)) * MIB)
        fetch = Fetch(str(args["url"]), name, max_bytes, args.get("sha256"), context.update)
        done = _run(fetch, inside, tuple(above), context.canceled)
        text = f"{args['file']}: {done.size / MIB:.1f} MB downloaded"
        if done.resumed_at:
            text += f", the first {done.resumed_at / MIB:.1f} MB in an earlier try"
        data = {"file": str(args["file"]), "bytes": done.size, "sha256": done.sha256, "resumed_at": done.resumed_at}
        return Output(text, data)

    properties: dict[str, JSON] = {
        "url": {"type": "string", "minLength": 1, "maxLength": 2000, "description": "An http:// or https:// URL."},
        "file": {
            "type": "string",
            "minLength": 1,
            "maxLength": 500,
            "description": "Where to put it, relative to the workspace. A file that is there is replaced at the end.",
        },
        "sha256": {"type": "string", "pattern": "^[0-9a-fA-F]{64}$", "description": "Its SHA-256, which is checked."},
        "max_mb": {
            "type": "number",
            "exclusiveMinimum": 0,
            "maximum": MAX_MB,
            "description": f"Refuse it where it is larger; {DEFAULT_MB} by default.",
        },
    }
    parameters = {
        "type": "object",
        "properties": properties,
        "required": ["url", "file"],
        "additionalProperties": False,
    }
    description = "Download a file into the workspace. A try that was cut off goes on where it was, if the server can."
    return [Tool(ToolSpec("download", description, parameters, "write", timeout_s=_TIMEOUT_S), download)]


def _run(fetch: Fetch, inside: Workspace, above: tuple[str, ...], canceled: threading.Event) -> Fetched:
    """Fetch in a thread of its own: looking up a name or connecting cannot be broken off, only be left behind."""
    outcome: list[Fetched | BaseException] = []
    is_done = threading.Event()

    def work() -> None:
        try:
            with inside.opened(above, make=True) as folder:
                outcome.append(fetch.run(folder))
        except OSError as error:
            outcome.append(ToolError(f"{fetch.name} cannot be written: {error.strerror}"))
        except BaseException as error:  # noqa: BLE001 - it is raised again by who waits
            outcome.append(error)
        is_done.set()

    threading.Thread(target=work, name="pibot-download", daemon=True).start()
    while not is_done.wait(_LOOK_EVERY_S):
        if canceled.is_set():
            fetch.cancel()
            is_done.wait(_LOOK_EVERY_S)
            raise ToolError("the download was cancelled; ask again to go on from there", code=ErrorCode.CANCELED)
    [result] = outcome
    if isinstance(result, BaseException):
        raise result
    return result
