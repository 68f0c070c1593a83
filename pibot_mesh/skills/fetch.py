"""One file over HTTP: with a limit, a checksum, and from where an earlier try was cut off.

Standard library only. What has come stands in ``FILE.part``, what is known of it in ``FILE.part.json``; FILE itself is
there, or replaced, only when all of it has come and is what it should be.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import http.client
import json
import os
import re
import socket
import stat
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from email.message import Message
from typing import IO, Final
from urllib.parse import urlsplit

from pibot_mesh.errors import ErrorCode, ToolError

MAX_REDIRECTS: Final = 5
MIB: Final = 1 << 20
_SILENCE_S: Final = 20.0
"""How long a server may say nothing."""
_BLOCK: Final = 1 << 16
_TELL_EVERY_S: Final = 0.5
_WORTH_ANOTHER_TRY: Final = frozenset((408, 425, 429))


@dataclass(frozen=True, slots=True)
class Fetched:
    """What came: all of it, *resumed_at* bytes of them from an earlier try."""

    size: int
    sha256: str
    resumed_at: int


@dataclass(frozen=True, slots=True)
class _Part:
    """What an earlier try left: *size* bytes of what *url* gave when its *validator* held."""

    url: str
    validator: str
    size: int


@dataclass(slots=True)
class Fetch:
    """Brings *url* to the file *name*. `run` blocks; `cancel` ends it from another thread.

    *update* is told in words how far it is, at most twice a second.
    """

    url: str
    name: str
    max_bytes: int
    sha256: str | None = None
    update: Callable[[str], None] = lambda _: None
    _folder: int = -1
    _is_canceled: bool = False
    _sockets: list[socket.socket] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def cancel(self) -> None:
        """End `run` soon. From here on it changes nothing any more, but for the end of a block being written."""
        with self._lock:
            self._is_canceled = True
            for one in self._sockets:
                with contextlib.suppress(OSError):
                    # The plain socket's: a TLS socket's own is not made for two threads.
                    socket.socket.shutdown(one, socket.SHUT_RDWR)

    def run(self, folder: int) -> Fetched:
        """Do it, in *folder*, a descriptor. Raises ToolError, in words for a person; what has come so far is kept."""
        self._folder = folder
        check_url(self.url)
        if _is_folder(self._folder, self.name):
            raise ToolError(f"{self.name} is a folder", code=ErrorCode.BAD_ARGUMENTS)
        try:
            return self._fetch()
        except urllib.error.HTTPError as error:
            error.close()
            raise _refused(self.url, error) from None
        except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
            self._check()
            raise ToolError(f"{self.url}: {_words(error)}", retryable=True) from None

    def _fetch(self) -> Fetched:
        left = self._left_over()
        response = self._open(left)
        if left is not None and not _goes_on(response, left):
            if response.status != 200:
                response.close()
                response = self._open(None)
            left = None
        begin = left.size if left is not None else 0
        with contextlib.closing(response), self._part_open() as part:
            if os.fstat(part.fileno()).st_size < begin:
                raise self._busy()
            part.truncate(begin)
            total = None if response.length is None else begin + response.length
            if total is not None and total > self.max_bytes:
                raise self._too_large(f"{total / MIB:.1f} MB")
            self._describe(left.validator if left is not None else _validator(response))
            digest = self._hash(part)
            size = self._copy(response, part, digest, begin, total)
            self._end(part, size, total, digest.hexdigest())
            return Fetched(size, digest.hexdigest(), begin)

    # The server

    def _open(self, left: _Part | None) -> http.client.HTTPResponse:
        headers = {"Accept-Encoding": "identity", "User-Agent": "pibot-mesh"}
        request = urllib.request.Request(self.url, headers=headers)  # noqa: S310 - `check_url` has looked at it
        if left is not None:
            request.add_header("Range", f"bytes={left.size}-")
            request.add_header("If-Range", left.validator)
        opener = urllib.request.OpenerDirector()  # not build_opener: that one reads file: and ftp: as well
        for handler in (
            urllib.request.ProxyHandler(),
            _Http(self._keep),
            _Https(self._keep),
            urllib.request.HTTPErrorProcessor(),
            urllib.request.HTTPDefaultErrorHandler(),
            _Redirects(),
        ):
            opener.add_handler(handler)
        try:
            response = opener.open(request, timeout=_SILENCE_S)
        except urllib.error.HTTPError as error:
            if error.code != 416 or left is None:
                raise
            error.close()
            return self._open(None)  # the file is shorter than what is left of it: it is another one
        assert isinstance(response, http.client.HTTPResponse)
        if left is None and response.status != 200:
            response.close()
            raise ToolError(f"{self.url}: the server answered {response.status} {response.reason}")
        return response

    def _keep(self, connected: socket.socket) -> None:
        """Remember a connection that stands, so that `cancel` can break it."""
        with self._lock:
            if self._is_canceled:
                connected.close()
            self._sockets.append(connected)

    def _check(self) -> None:
        if self._is_canceled:
            raise ToolError("the download was cancelled", code=ErrorCode.CANCELED)

    # The file

    @property
    def _part(self) -> str:
        return f"{self.name}.part"

    @property
    def _description(self) -> str:
        return f"{self.name}.part.json"

    def _open_file(self, name: str, flags: int) -> IO[bytes]:
        """No link is followed: it could lead out of the folder."""
        number = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644, dir_fd=self._folder)
        return os.fdopen(number, "rb" if flags == os.O_RDONLY else "r+b")

    def _left_over(self) -> _Part | None:
        """What an earlier try left of the same URL, if the server can tell whether it still fits."""
        try:
            with self._open_file(self._description, os.O_RDONLY) as file:
                known = json.loads(file.read(_BLOCK))
            size = os.stat(self._part, dir_fd=self._folder, follow_symlinks=False).st_size
            left = _Part(str(known["url"]), str(known["validator"]), size)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return left if left.url == self.url and left.validator and left.size else None

    @contextlib.contextmanager
    def _part_open(self) -> Iterator[IO[bytes]]:
        """The part, for one download at a time."""
        self._check()
        with self._open_file(self._part, os.O_RDWR | os.O_CREAT) as part:
            try:
                fcntl.flock(part, fcntl.LOCK_EX | fcntl.LOCK_NB)
                there = os.stat(self._part, dir_fd=self._folder, follow_symlinks=False)
                is_ours = os.path.samestat(os.fstat(part.fileno()), there)
            except (BlockingIOError, FileNotFoundError):
                is_ours = False
            if not is_ours:  # it was whole a moment ago, and has its own name now
                raise self._busy()
            yield part

    def _busy(self) -> ToolError:
        return ToolError(f"{self.name} is being downloaded already", code=ErrorCode.BUSY, retryable=True)

    def _describe(self, validator: str) -> None:
        """Write down what the part is of."""
        with self._open_file(self._description, os.O_RDWR | os.O_CREAT | os.O_TRUNC) as file:
            file.write(json.dumps({"url": self.url, "validator": validator}).encode())

    def _hash(self, part: IO[bytes]) -> hashlib._Hash:
        digest = hashlib.sha256()
        part.seek(0)
        while block := part.read(_BLOCK):
            self._check()
            digest.update(block)
        return digest

    def _copy(
        self,
        response: http.client.HTTPResponse,
        part: IO[bytes],
        digest: hashlib._Hash,
        size: int,
        total: int | None,
    ) -> int:
        told_at = time.monotonic()
        while block := response.read1(_BLOCK):
            self._check()
            size += len(block)
            if size > self.max_bytes:
                raise self._too_large("more")
            part.write(block)
            digest.update(block)
            if time.monotonic() - told_at >= _TELL_EVERY_S:
                told_at = time.monotonic()
                of = f" of {total / MIB:.1f}" if total is not None else ""
                self.update(f"{self.name}: {size / MIB:.1f}{of} MB")
        self._check()
        return size

    def _end(self, part: IO[bytes], size: int, total: int | None, sha256: str) -> None:
        if total is not None and size != total:
            text = f"{self.url}: only {size} of {total} bytes came; ask again to go on from there"
            raise ToolError(text, retryable=True)
        if self.sha256 is not None and sha256 != self.sha256.lower():
            self._clear()
            raise ToolError(f"{self.url}: the file is not the expected one: its SHA-256 is {sha256}")
        part.flush()
        os.fsync(part.fileno())
        with self._lock:
            if not self._is_canceled:
                os.replace(self._part, self.name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
                self._remove(self._description)
        self._check()

    def _too_large(self, size: str) -> ToolError:
        self._clear()
        return ToolError(f"{self.url}: the file has {size}, and at most {self.max_bytes / MIB:g} MB are allowed")

    def _clear(self) -> None:
        self._remove(self._part)
        self._remove(self._description)

    def _remove(self, name: str) -> None:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self._folder)


def check_url(url: str) -> None:
    """Raises ToolError, code ``bad_arguments``, for what is no plain URL of HTTP or HTTPS."""
    problem = ""
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises ValueError where it is no number
        if parts.scheme not in ("http", "https") or not parts.hostname:
            problem = "only http:// and https:// are taken"
        elif parts.username is not None:
            problem = "a name or password in a URL is not taken: it would stand in logs"
        elif not re.fullmatch(r"[\x21-\x7e]+", url):
            problem = "write blanks and letters beyond ASCII as %-escapes"
    except ValueError as error:
        problem = str(error)
    if problem:
        raise ToolError(f"{url!r} cannot be downloaded: {problem}", code=ErrorCode.BAD_ARGUMENTS)


def _is_folder(folder: int, name: str) -> bool:
    try:
        return stat.S_ISDIR(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode)
    except OSError:
        return False


class _Redirects(urllib.request.HTTPRedirectHandler):
    max_redirections = MAX_REDIRECTS
    max_repeats = MAX_REDIRECTS

    def redirect_request(  # noqa: PLR0917 - urllib's own signature
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: Message,
        newurl: str,
    ) -> urllib.request.Request | None:
        try:
            check_url(newurl)
        except ToolError as error:
            raise ToolError(f"{req.full_url} leads elsewhere, and {error}") from None
        if req.type == "https" and urlsplit(newurl).scheme != "https":
            raise ToolError(f"{req.full_url} leads to {newurl}, which is not encrypted: not followed")
        return super().redirect_request(req, fp, code, msg, headers, newurl)  # type: ignore[arg-type]


class _Http(urllib.request.HTTPHandler):
    def __init__(self, keep: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self._keep = keep

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        keep = self._keep

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                keep(self.sock)

        return self.do_open(Connection, req)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, keep: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self._keep = keep

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        keep = self._keep

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                keep(self.sock)

        return self.do_open(Connection, req)


def _validator(response: http.client.HTTPResponse) -> str:
    """What tells whether the file on the server is still the same. A weak tag does not promise the same bytes."""
    tag = response.headers.get("ETag", "")
    return tag if tag.startswith('"') else response.headers.get("Last-Modified", "")


def _goes_on(response: http.client.HTTPResponse, left: _Part) -> bool:
    """Whether the server sends just what is missing of the same file."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", ""))
    is_same = _validator(response) in ("", left.validator)
    return response.status == 206 and match is not None and int(match[1]) == left.size and is_same


def _refused(url: str, error: urllib.error.HTTPError) -> ToolError:
    if 300 <= error.code < 400:
        return ToolError(f"{url}: it leads to another place more than {MAX_REDIRECTS} times, or to none that is taken")
    is_transient = error.code >= 500 or error.code in _WORTH_ANOTHER_TRY
    return ToolError(f"{url}: the server answered {error.code} {error.reason}", retryable=is_transient)


def _words(error: Exception) -> str:
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return f"the server said nothing for {_SILENCE_S:g} s"
    if isinstance(reason, http.client.IncompleteRead):
        return "the connection broke in the middle; ask again to go on from there"
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror
    return str(reason) or type(reason).__name__
