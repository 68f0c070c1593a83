"""Tool calls put together from fragments, whose keys each service fills in its own way. Pure: no sockets.

Fragments belong together by their index, and where that says nothing by their id; see the quirks in agent.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Final

from pibot_mesh.agent.messages import CallRequest

CALL_SIZE: Final = 1000
"""Characters that a call counts for besides its own, so that empty ones are bounded as well."""


def repaired(text: str) -> str:
    """*text* with surrogate pairs joined and single halves replaced, so that it can be written as UTF-8."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


class _Call:
    """One tool call in the making."""

    def __init__(self) -> None:
        self.id = ""
        self.ids: set[str] = set()
        self.name = ""
        self.pieces: list[str] = []
        self.may_be_echo = False
        """Whether it only says a name again, under a new id, unless arguments follow."""
        self._scanned = 0
        self._depth = 0
        self._is_in_text = False
        self._is_escaped = False
        self._is_balanced = False

    @property
    def is_complete(self) -> bool:
        """Whether the arguments are an object that is closed. Each piece is looked at once."""
        for piece in self.pieces[self._scanned :]:
            self._scan(piece)
        self._scanned = len(self.pieces)
        return self._is_balanced

    def arguments(self) -> str:
        """All arguments as they came."""
        return repaired("".join(self.pieces))

    def add_name(self, name: str) -> None:
        """Services repeat the name, send it in pieces, or send more of it each time."""
        self.name = name if name.startswith(self.name) else self.name + name

    def _scan(self, piece: str) -> None:
        if self._is_escaped:
            self._is_escaped, piece = False, piece[1:]
        for match in _STRUCTURE.finditer(piece):
            mark = match[0]
            if mark[0] == "\\":
                self._is_escaped = len(mark) == 1
            elif mark == '"':
                self._is_in_text = not self._is_in_text
            elif not self._is_in_text:
                self._depth += 1 if mark in "{[" else -1
                self._is_balanced = self._depth == 0


_STRUCTURE: Final = re.compile(r'\\.?|["{}\[\]]', re.DOTALL)


class Calls:
    """The calls of one answer, in the order in which they began."""

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        self._by_index: dict[int, _Call] = {}
        self._by_id: dict[str, _Call] = {}

    def take(self, fragments: list[object]) -> int:
        """Add the fragments of one chunk. Returns how many characters they brought."""
        size = 0
        named: list[_Call] = []
        for fragment in fragments:
            if isinstance(fragment, dict):
                size += self._take(fragment, named)
        return size

    @property
    def has_nameless(self) -> bool:
        """Whether there are arguments for nobody."""
        return any(call.pieces and not call.name.strip() for call in self._calls)

    def requests(self, make_id: Callable[[], str]) -> tuple[CallRequest, ...]:
        """The calls as the model asked for them, each with an id of its own; those without a name are left out."""
        taken: set[str] = set()
        requests = []
        for call in self._calls:
            if not call.name.strip() or (call.may_be_echo and not call.pieces):
                continue
            id_ = repaired(call.id)
            while not id_ or id_ in taken:
                id_ = make_id()
            taken.add(id_)
            requests.append(CallRequest(id_, repaired(call.name.strip()), call.arguments()))
        return tuple(requests)

    def _take(self, fragment: Mapping[str, object], named: list[_Call]) -> int:
        function = fragment.get("function")
        if not isinstance(function, dict):
            function = fragment
        id_ = _word(fragment.get("id"))
        name = _word(function.get("name"))
        arguments = _arguments(function.get("arguments"))
        index = _index(fragment.get("index"))
        before = len(self._calls)
        call = self._call(index, id_, name, arguments, named)
        if call is None:
            return 0
        if name:
            call.add_name(name)
            named.append(call)
        if id_:
            call.id = call.id or id_
            call.ids.add(id_)
        if arguments:
            call.pieces.append(arguments)
        return len(arguments) + len(name) + CALL_SIZE * (len(self._calls) - before)

    def _call(self, index: int | None, id_: str, name: str, arguments: str, named: list[_Call]) -> _Call | None:
        """The call that a fragment belongs to, which may be a new one; None where it only repeats one."""
        call = self._known(index, id_, name)
        if call is not None and id_ and id_ in call.ids and name == call.name and call.is_complete:
            is_repeated = not arguments or arguments == call.arguments()
            if is_repeated:
                return None
        if call is None or _begins_another(call, id_, name, arguments, is_in_same_chunk=call in named):
            before, call = call, _Call()
            call.may_be_echo = before is not None and before not in named and name == before.name
            self._calls.append(call)
        if index is not None:
            self._by_index[index] = call
        if id_:
            self._by_id.setdefault(id_, call)
        return call

    def _known(self, index: int | None, id_: str, name: str) -> _Call | None:
        if index is not None:
            by_index = self._by_index.get(index)
            if by_index is not None or name or not id_:
                return by_index
        if id_ in self._by_id:
            return self._by_id[id_]
        if index is None and not (id_ and name):
            return self._calls[-1] if self._calls else None
        return None


def _begins_another(call: _Call, id_: str, name: str, arguments: str, *, is_in_same_chunk: bool) -> bool:
    """Whether a fragment that points to *call* is the first of another one: services give parallel calls one index."""
    if not name or not call.name:
        return False
    is_same_id = bool(id_) and id_ in call.ids
    is_new_id = bool(id_ and call.ids) and not is_same_id
    if call.is_complete:
        return name != call.name or is_in_same_chunk or bool(arguments.strip()) or is_new_id
    if is_in_same_chunk:
        return not is_same_id
    return bool(name != call.name and call.pieces) or (is_new_id and not name.startswith(call.name))


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _index(value: object) -> int | None:
    if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value):
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _arguments(value: object) -> str:
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (dict, list)) else ""
