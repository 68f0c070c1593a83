"""Where a file says that the ledger is: the address of a PostgreSQL database, which holds no password there."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import parse_qsl

from pibot_mesh.config.draft import Draft
from pibot_mesh.config.settings import HistorySettings
from pibot_mesh.config.source import KeyPath, Problem
from pibot_mesh.config.words import show

_AT: Final[KeyPath] = ("master", "ledger")
_EXPECTED: Final = "an address such as postgresql://pibot@db.local/pibot is expected"
_ADDRESS: Final = re.compile(
    r"postgres(?:ql)?://(?:(?P<user>[^:@/?\s]*)(?P<password>:[^@/?\s]*)?@)?(?P<hosts>[^@/?\s]*)(?:/(?P<base>[^@/?\s]*))?(?:\?(?P<rest>\S*))?"
)
_HOST: Final = re.compile(r"(?:[A-Za-z0-9_.%-]*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]*))?")


def ledger_address(draft: Draft) -> str | None:
    """The address of a shared ledger, or None for the file in the state's folder.

    A password may stand in the variable only: others may read the file.
    """
    address = draft.text(_AT)
    if not address:
        return None
    found = _ADDRESS.fullmatch(address)
    text = _wrong(found) if found else f"{_EXPECTED}, not {_shown(address)}"
    if text is None and found is not None and not draft.is_by_variable(_AT) and _has_password(found):
        text = (
            "a password does not belong here: leave it out, and put it into ~/.pgpass (mode 0600), or set PIBOT_LEDGER "
            "to the whole address"
        )
    if text is not None:
        draft.note(Problem(_AT, text))
        return None
    return address


def history_settings(draft: Draft) -> HistorySettings:
    """How long the stories of requests are kept."""
    usual = HistorySettings()
    return HistorySettings(
        draft.number(("history", "days"), usual.days), draft.number(("history", "megabytes"), usual.megabytes)
    )


def _wrong(found: re.Match[str]) -> str | None:
    for host in found["hosts"].split(","):
        match = _HOST.fullmatch(host)
        if match is None:
            return f"{show(host)} is no host: {_EXPECTED} (a special character in a name or password as %40)"
        if match["port"] and not 1 <= int(match["port"]) <= 65535:
            return f"a port is a number from 1 to 65535, not {match['port']}"
    if not found["base"]:
        return f"the name of the database is missing: {_EXPECTED}"
    return None


def _has_password(found: re.Match[str]) -> bool:
    return bool(found["password"]) or any(name == "password" for name, _ in parse_qsl(found["rest"] or ""))


def _shown(address: str) -> str:
    return "this" if "@" in address else show(address)  # a password may stand before the @
