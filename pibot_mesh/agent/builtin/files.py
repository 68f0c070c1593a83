"""Tools for the files of one folder, the workspace, and nothing outside of it.

A path is resolved first, symbolic links and ``..`` included. The resolved one is then walked folder by folder without
following any link, so that one which is slipped in meanwhile leads nowhere.
"""

from __future__ import annotations

import contextlib
import fcntl
import heapq
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pibot_mesh.agent.tools import Between, Length, Tool, make_tool
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.protocol.messages import Output

MAX_BYTES: Final = 64 * 1024
"""What one call may read or write where nothing else is said."""
MAX_ENTRIES: Final = 500
"""Files that one listing names."""
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_TEMPORARY: Final = ".pibot-write.tmp"
_FAR: Final = 2**53
_LONGEST_LETTER: Final = 4
"""Bytes of one character in UTF-8."""


def file_tools(workspace: Path, *, max_bytes: int = MAX_BYTES) -> list[Tool]:
    """``file_read``, ``file_write``, ``file_list`` and ``file_delete``, inside *workspace*, which may not be there yet.

    *max_bytes* is the most that one call reads or writes.
    """
    inside = Workspace(workspace)

    def file_read(
        path: str,
        offset: Annotated[int, Between(-_FAR, _FAR)] = 0,
        limit: Annotated[int, Between(low=_LONGEST_LETTER)] | None = None,
    ) -> Output:
        """Read a text file of the workspace. A long one is given in parts: the answer then says how to go on.

        Args:
            path: The file, relative to the workspace.
            offset: The byte to begin at; a negative one counts from the end of the file.
            limit: The most bytes to give.
        """
        return _read(inside, path, offset, min(limit or max_bytes, max_bytes))

    def file_write(
        path: str,
        text: Annotated[str, Length(high=max_bytes)],
        mode: Literal["overwrite", "create", "append"] = "overwrite",
    ) -> Output:
        """Write a text file of the workspace, and the folders above it. The file is either old or new, never half.

        Args:
            path: The file, relative to the workspace.
            text: What to write.
            mode: overwrite replaces what is there, create refuses to, append adds at the end.
        """
        return _write(inside, path, text, mode, max_bytes)

    def file_list(path: str = ".") -> Output:
        """List a folder of the workspace: folders end in a slash, files have their size in bytes.

        Args:
            path: The folder, relative to the workspace.
        """
        return _list(inside, path)

    def file_delete(path: str) -> Output:
        """Delete one file or empty folder of the workspace. Of a symbolic link, the link.

        Args:
            path: What to delete, relative to the workspace.
        """
        return _delete(inside, path)

    return [
        make_tool(file_read),
        make_tool(file_write, effect="write"),
        make_tool(file_list),
        make_tool(file_delete, effect="write"),
    ]


@dataclass(frozen=True, slots=True)
class Workspace:
    """A folder that paths cannot leave."""

    folder: Path

    def resolve(self, path: str, *, is_link_meant: bool = False) -> tuple[str, ...]:
        """The parts of *path* below the folder, with links and ``..`` resolved; the last one not where a link is meant.

        Raises ToolError, code ``bad_arguments``, where it leads out of the folder.
        """
        root = os.path.realpath(self.folder.expanduser())
        joined = os.path.join(root, path)
        try:
            above, name = os.path.split(joined.rstrip("/"))
            if is_link_meant and name not in ("", ".", ".."):
                real = os.path.join(os.path.realpath(above), name)
            else:
                real = os.path.realpath(joined)
        except ValueError:
            raise _refused(f"{path!r} is no path") from None
        if real != root and not real.startswith(root.rstrip("/") + "/"):
            raise _refused(f"{path!r} is outside of the workspace: name a file inside, such as notes/today.txt")
        return tuple(part for part in real[len(root) :].split("/") if part)

    @contextlib.contextmanager
    def opened(self, parts: tuple[str, ...], *, make: bool = False) -> Iterator[int]:
        """The folder that *parts* name, as a file descriptor; with *make*, what is not there is made.

        Raises OSError; also for a link on the way, since resolved parts have none.
        """
        root = os.path.realpath(self.folder.expanduser())
        if make:
            os.makedirs(root, exist_ok=True)
        at = os.open(root, _FOLDER)
        try:
            for part in parts:
                if make:
                    with contextlib.suppress(FileExistsError):
                        os.mkdir(part, dir_fd=at)
                below = os.open(part, _FOLDER, dir_fd=at)
                os.close(at)
                at = below
            yield at
        finally:
            os.close(at)


def replace_file(folder: int, name: str, content: bytes, *, mode: int = 0o666) -> None:
    """Let the file *name* in *folder* (a descriptor, `locked` by the caller) have *content*, all or nothing.

    After this it is on the disk. A killed process or a pulled plug leaves the old file. A new one gets *mode* without
    what the umask takes; an old one keeps its own. Raises OSError.
    """
    about = _about(folder, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_TEMPORARY, dir_fd=folder)
    written = os.open(_TEMPORARY, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=folder)
    try:
        with open(written, "wb") as file:
            if about is not None:
                os.fchmod(written, about.st_mode & 0o777)
            file.write(content)
            file.flush()
            os.fsync(written)
        os.rename(_TEMPORARY, name, src_dir_fd=folder, dst_dir_fd=folder)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(_TEMPORARY, dir_fd=folder)
        raise
    os.fsync(folder)


@contextlib.contextmanager
def locked(folder: int) -> Iterator[None]:
    """One at a time in *folder*, of all threads and programs that ask with this. Raises OSError."""
    fcntl.flock(folder, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(folder, fcntl.LOCK_UN)


def _refused(why: str) -> ToolError:
    return ToolError(why, code=ErrorCode.BAD_ARGUMENTS)


@contextlib.contextmanager
def _in_words(path: str) -> Iterator[None]:
    """What the system refuses, as a ToolError that names *path*."""
    try:
        yield
    except FileNotFoundError:
        raise ToolError(f"there is no {path!r} in the workspace") from None
    except OSError as error:
        raise ToolError(f"{path!r}: {error.strerror or error}") from None


def _name(parts: tuple[str, ...], path: str) -> str:
    if not parts:
        raise _refused(f"{path!r} is the workspace itself: name a file inside")
    return parts[-1]


def _read(inside: Workspace, path: str, offset: int, limit: int) -> Output:
    parts = inside.resolve(path)
    with _in_words(path), inside.opened(parts[:-1]) as folder:
        # Without waiting: to open a pipe would wait for who writes to it.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        file = os.open(_name(parts, path), flags, dir_fd=folder)
        try:
            about = os.fstat(file)
            _check_regular(about, path)
            start = offset if offset >= 0 else max(0, about.st_size + offset)
            raw = os.pread(file, limit, start)
        finally:
            os.close(file)
    text, skipped, read = _decoded(raw, path, is_start=start == 0)
    data = {"path": path, "size": about.st_size, "offset": start + skipped}
    end = start + read
    is_whole = start + skipped == 0 and end >= about.st_size
    if is_whole:
        return Output(text or f"{path} is empty", data)
    note = f"[bytes {start + skipped} to {end} of {about.st_size}"
    if end < about.st_size:
        data["next_offset"] = end
        note += f"; go on with offset={end}"
    return Output(f"{text}\n{note}]", data)


def _check_regular(about: os.stat_result, path: str) -> None:
    if stat.S_ISDIR(about.st_mode):
        raise ToolError(f"{path!r} is a folder: list it instead")
    if not stat.S_ISREG(about.st_mode):
        raise ToolError(f"{path!r} is no regular file")


def _decoded(raw: bytes, path: str, *, is_start: bool) -> tuple[str, int, int]:
    """The text in a part of a file, which may begin or end within a character: (text, bytes skipped, bytes used)."""
    skipped = 0
    while not is_start and skipped < min(_LONGEST_LETTER - 1, len(raw)) and raw[skipped] & 0xC0 == 0x80:
        skipped += 1
    try:
        return _text(raw[skipped:]), skipped, len(raw)
    except UnicodeDecodeError as error:
        at = skipped + error.start
        if error.reason == "unexpected end of data" and at > 0:
            return _text(raw[skipped:at]), skipped, at
    except ValueError:
        pass
    raise ToolError(f"{path!r} is no text in UTF-8")


def _text(raw: bytes) -> str:
    if b"\0" in raw:
        raise ValueError("texts have no zero bytes")
    return raw.decode()


def _write(inside: Workspace, path: str, text: str, mode: str, max_bytes: int) -> Output:
    content = text.encode()
    if len(content) > max_bytes:
        raise _refused(f"{len(content)} bytes, and at most {max_bytes} are written at once: write the rest with append")
    parts = inside.resolve(path)
    name = _name(parts, path)
    with _in_words(path), inside.opened(parts[:-1], make=True) as folder, locked(folder):
        about = _about(folder, name)
        if about is not None:
            _check_regular(about, path)
            if mode == "create":
                raise ToolError(f"{path!r} is there already: choose the mode overwrite or append, or another name")
        if mode == "append" and about is not None:
            _append(folder, name, content)
        else:
            replace_file(folder, name, content)
        size = os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
    did = "appended to" if mode == "append" and about is not None else "written to"
    return Output(f"{len(content)} bytes {did} {path}", {"path": path, "size": size})


def _append(folder: int, name: str, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    with open(os.open(name, flags, dir_fd=folder), "ab") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _about(folder: int, name: str) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _list(inside: Workspace, path: str) -> Output:
    parts = inside.resolve(path)
    count = 0
    with _in_words(path):
        try:
            with inside.opened(parts) as folder, os.scandir(folder) as entries:

                def names() -> Iterator[str]:
                    nonlocal count
                    for entry in entries:
                        count += 1
                        yield entry.name

                found = [(name, _about(folder, name)) for name in heapq.nsmallest(MAX_ENTRIES, names())]
        except FileNotFoundError:
            if parts:
                raise
            found = []  # a workspace into which nothing was written yet
    shown = [_entry(name, about) for name, about in found if about is not None]
    lines = [_entry_words(entry) for entry in shown]
    if count > MAX_ENTRIES:
        lines.append(f"[the first {MAX_ENTRIES} of {count}]")
    return Output("\n".join(lines) or f"{path} is empty", {"entries": shown, "count": count})


def _entry(name: str, about: os.stat_result) -> dict[str, str | int]:
    printable = name.encode(errors="replace").decode()
    if stat.S_ISREG(about.st_mode):
        return {"name": printable, "kind": "file", "size": about.st_size}
    kind = {stat.S_IFDIR: "folder", stat.S_IFLNK: "link"}.get(stat.S_IFMT(about.st_mode), "other")
    return {"name": printable, "kind": kind}


def _entry_words(entry: dict[str, str | int]) -> str:
    match entry["kind"]:
        case "file":
            return f"{entry['name']}  {entry['size']}"
        case "folder":
            return f"{entry['name']}/"
        case kind:
            return f"{entry['name']}  ({kind})"


def _delete(inside: Workspace, path: str) -> Output:
    parts = inside.resolve(path, is_link_meant=True)
    name = _name(parts, path)
    with _in_words(path), inside.opened(parts[:-1]) as folder, locked(folder):
        about = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISDIR(about.st_mode):
            os.rmdir(name, dir_fd=folder)
        else:
            os.unlink(name, dir_fd=folder)
    return Output(f"{path} is deleted")
