"""What a node has learned to do by itself, and which reflexes were switched, kept over restarts in one file."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pibot_mesh.config.settings import Action, Condition, ReflexSettings
from pibot_mesh.errors import ProtocolError
from pibot_mesh.protocol.codec import JSON, Length, decode, encode
from pibot_mesh.protocol.messages import DeviceId, OutputValue

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Learned:
    """What a restart must not lose: the *reflexes* that came by requests, and what was *switched* on or off, by id."""

    reflexes: tuple[ReflexSettings, ...] = ()
    switched: Mapping[str, bool] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Action:
    device: DeviceId
    value: JSON
    for_s: float | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.value, (bool, int, float, str)):
            raise ValueError(f"value: true, false, a number or a color is expected, not {self.value!r}")
        if not isinstance(self.value, str) and not 0 <= self.value <= 100:  # one too large is no float
            raise ValueError("value: a number from 0 to 100 is expected")


@dataclass(frozen=True, slots=True)
class _Reflex:
    id: DeviceId
    when: Condition
    then: Annotated[tuple[_Action, ...], Length(1, 16)]
    otherwise: tuple[_Action, ...] = ()


@dataclass(frozen=True, slots=True)
class _File:
    learned: tuple[_Reflex, ...] = ()
    switched: Mapping[str, bool] = field(default_factory=dict)


def dump(learned: Learned) -> bytes:
    """*learned* as JSON. Raises ProtocolError where it is more than 64 KiB."""
    reflexes = tuple(
        _Reflex(reflex.id, reflex.when, _kept(reflex.then), _kept(reflex.otherwise)) for reflex in learned.reflexes
    )
    return encode(_File(reflexes, learned.switched)) + b"\n"


def load(payload: bytes) -> Learned:
    """What `dump` wrote. Raises ProtocolError for anything else."""
    file = decode(_File, payload)
    reflexes = (
        ReflexSettings(reflex.id, reflex.when, _actions(reflex.then), _actions(reflex.otherwise))
        for reflex in file.learned
    )
    return Learned(tuple(reflexes), file.switched)


class ReflexStore:
    """*file* holds all of it or, where a plug is pulled in the middle of writing, all that it held before."""

    def __init__(self, file: Path, *, wall: Callable[[], float] = time.time) -> None:
        self.file = file.expanduser()
        self._wall = wall
        self._writing = asyncio.Lock()

    def read(self) -> Learned:
        """What is there. A file that cannot be understood is set aside under another name, which is logged."""
        try:
            return load(self.file.read_bytes())
        except FileNotFoundError:
            return Learned()
        except ProtocolError as error:
            aside = self.file.with_name(f"{self.file.name}.broken-{int(self._wall())}")
            _log.error("%s is damaged (%s): set aside as %s; no reflex in it is kept", self.file, error, aside.name)
            with contextlib.suppress(OSError):
                self.file.rename(aside)
        except OSError as error:
            _log.error("%s cannot be read: %s; no reflex in it is kept", self.file, error.strerror)
        return Learned()

    async def write(self, current: Callable[[], Learned]) -> None:
        """Write what *current* gives once those before have written. Raises OSError, and ProtocolError as `dump` does.

        Who is cancelled here leaves the writing to its end: two at once would spoil the file.
        """
        await asyncio.shield(asyncio.ensure_future(self._write_in_turn(current)))

    async def _write_in_turn(self, current: Callable[[], Learned]) -> None:
        async with self._writing:
            await asyncio.to_thread(_replace, self.file, dump(current()))


def _replace(file: Path, content: bytes) -> None:
    """*file* holds *content*, whole and on the disk, or what it held before."""
    file.parent.mkdir(parents=True, exist_ok=True)
    draft = file.with_name(f"{file.name}.new")
    with draft.open("wb") as stream:
        stream.write(content)
        stream.flush()
        os.fsync(stream.fileno())
    draft.replace(file)
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)  # without it the new name may be lost, though not the content
    finally:
        os.close(folder)


def _kept(actions: tuple[Action, ...]) -> tuple[_Action, ...]:
    return tuple(_Action(action.device, action.value, action.for_s) for action in actions)


def _actions(kept: tuple[_Action, ...]) -> tuple[Action, ...]:
    return tuple(Action(action.device, _value(action.value), action.for_s) for action in kept)


def _value(value: JSON) -> OutputValue:
    return value if isinstance(value, (bool, str)) else float(value)
