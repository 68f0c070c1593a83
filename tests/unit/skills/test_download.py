"""Files from the web, from real servers on the loopback interface."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pibot_mesh.agent.tools import ToolContext, ToolRegistry
from pibot_mesh.errors import ErrorCode, ToolError
from pibot_mesh.protocol.codec import JSON
from pibot_mesh.protocol.messages import Output
from pibot_mesh.skills import fetch
from pibot_mesh.skills.download import download_tools
from tests.brokers import free_port, needs_openssl, until
from tests.unit.skills.file_server import CONTENT, SHA256, FileServer, Handler

MIB = 1 << 20


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of this machine stands between us and the server."""
    monkeypatch.setenv("no_proxy", "*")


@pytest.fixture
def server() -> Iterator[FileServer]:
    with FileServer() as server:
        yield server


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    return tmp_path / "workspace"


async def download(workspace: Path, url: str, context: ToolContext | None = None, **more: JSON) -> Output:
    args = {"url": url, "file": "file.bin", **more}
    return await ToolRegistry(download_tools(workspace)).call("download", args, context or ToolContext())


async def refusal(workspace: Path, url: str, **more: JSON) -> ToolError:
    with pytest.raises(ToolError) as caught:
        await download(workspace, url, **more)
    return caught.value


def names(workspace: Path) -> list[str]:
    return sorted(str(path.relative_to(workspace)) for path in workspace.rglob("*") if path.is_file())


def ends_after(server: FileServer, length: int) -> None:
    """The next request gets *length* bytes and then the end; those after it get all."""

    def answer(handler: Handler) -> bool:
        server.answer = lambda _: False
        handler.serve(length)
        return True

    server.answer = answer


def redirects(server: FileServer, to: str, status: int = 302) -> None:
    def answer(handler: Handler) -> bool:
        if handler.path != "/file":
            handler.head(status, Location=to, **{"Content-Length": "0"})
        return handler.path != "/file"

    server.answer = answer


async def test_a_file_comes_whole(server: FileServer, workspace: Path) -> None:
    """Into folders that are made for it, and says what came."""
    output = await download(workspace, server.url, file="maps/town.bin", sha256=SHA256.upper())

    assert (workspace / "maps" / "town.bin").read_bytes() == CONTENT
    assert names(workspace) == ["maps/town.bin"]
    assert output == Output(
        "maps/town.bin: 1.0 MB downloaded",
        {"file": "maps/town.bin", "bytes": MIB, "sha256": SHA256, "resumed_at": 0},
    )


async def test_a_new_file_takes_the_place_of_the_old_one(server: FileServer, workspace: Path) -> None:
    """Only at the end: until then who reads it has the old one whole."""
    workspace.mkdir()
    (workspace / "file.bin").write_text("old")
    ends_after(server, 1000)
    await refusal(workspace, server.url)
    assert (workspace / "file.bin").read_text() == "old"

    await download(workspace, server.url)

    assert (workspace / "file.bin").read_bytes() == CONTENT


async def test_what_was_cut_off_goes_on_where_it_was(server: FileServer, workspace: Path) -> None:
    """Only what is missing comes, and only of the same file."""
    ends_after(server, MIB // 2)
    error = await refusal(workspace, server.url)
    assert "only 524288 of 1048576 bytes came" in str(error)
    assert error.retryable
    assert names(workspace) == ["file.bin.part", "file.bin.part.json"]

    output = await download(workspace, server.url, sha256=SHA256)

    assert server.asked[1]["range"] == "bytes=524288-"
    assert server.asked[1]["if-range"] == '"v1"'
    assert output.text == "file.bin: 1.0 MB downloaded, the first 0.5 MB in an earlier try"
    assert (workspace / "file.bin").read_bytes() == CONTENT
    assert names(workspace) == ["file.bin"]


async def test_a_file_can_go_on_more_than_once(server: FileServer, workspace: Path) -> None:
    """By its date as well, where it has no tag."""
    server.etag, server.last_modified = "", "Tue, 01 Jul 2025 10:00:00 GMT"
    for _ in range(3):
        ends_after(server, MIB // 4)
        await refusal(workspace, server.url)

    output = await download(workspace, server.url, sha256=SHA256)

    assert output.data["resumed_at"] == 3 * MIB // 4


@pytest.mark.parametrize("change", ["another file", "no ranges", "only a weak tag", "another address"])
async def test_what_cannot_go_on_comes_from_the_start(server: FileServer, workspace: Path, change: str) -> None:
    """Two halves of different files are no file."""
    server.etag = 'W/"v1"' if change == "only a weak tag" else '"v1"'
    ends_after(server, MIB // 2)
    await refusal(workspace, server.url)
    url = server.url
    if change == "another file":
        server.etag, server.content = '"v2"', CONTENT[::-1]
    elif change == "no ranges":
        server.has_ranges = False
    elif change == "another address":
        url += "?again"

    output = await download(workspace, url)

    assert output.data["resumed_at"] == 0
    assert (workspace / "file.bin").read_bytes() == server.content


def wrong_piece(handler: Handler) -> bool:
    if "Range" in handler.headers:
        handler.head(206, **{"Content-Range": "bytes 5-9/1048576", "Content-Length": "5"})
        handler.wfile.write(b"wrong")
    return "Range" in handler.headers


def other_file(handler: Handler) -> bool:
    if "Range" in handler.headers:
        handler.send_response(206)
        handler.send_header("ETag", '"v3"')
        handler.send_header("Content-Range", "bytes 524288-524292/1048576")
        handler.send_header("Content-Length", "5")
        handler.end_headers()
        handler.wfile.write(b"wrong")
    return "Range" in handler.headers


def nothing_there(handler: Handler) -> bool:
    if "Range" in handler.headers:
        handler.head(416, **{"Content-Length": "0"})
    return "Range" in handler.headers


@pytest.mark.parametrize("answer", [wrong_piece, other_file, nothing_there])
async def test_a_server_that_gets_pieces_wrong_is_asked_for_the_whole(
    server: FileServer, workspace: Path, answer: object
) -> None:
    """It sends another piece, one of another file, or none."""
    ends_after(server, MIB // 2)
    await refusal(workspace, server.url)
    server.answer = answer  # type: ignore[assignment]  # one of the three above

    output = await download(workspace, server.url, sha256=SHA256)

    assert output.data["resumed_at"] == 0


async def test_a_piece_that_nobody_asked_for_is_no_file(server: FileServer, workspace: Path) -> None:
    """It would look whole."""

    def answer(handler: Handler) -> bool:
        handler.head(206, **{"Content-Range": "bytes 0-4/100", "Content-Length": "5"})
        handler.wfile.write(b"piece")
        return True

    server.answer = answer

    assert "the server answered 206" in str(await refusal(workspace, server.url))
    assert names(workspace) == []


async def test_a_file_that_is_not_the_expected_one_is_thrown_away(server: FileServer, workspace: Path) -> None:
    """It must not be taken for the right one, nor be gone on with."""
    error = await refusal(workspace, server.url, sha256="0" * 64)

    assert f"its SHA-256 is {SHA256}" in str(error)
    assert names(workspace) == []


def told(handler: Handler) -> bool:
    return False


def chunked(handler: Handler) -> bool:
    """Without a length before."""
    handler.head(200, **{"Transfer-Encoding": "chunked"})
    for begin in range(0, MIB, 65_536):
        handler.wfile.write(b"10000\r\n" + CONTENT[begin : begin + 65_536] + b"\r\n")
    handler.wfile.write(b"0\r\n\r\n")
    return True


@pytest.mark.parametrize(("answer", "words"), [(told, "has 1.0 MB, and at most 0.5 MB"), (chunked, "has more")])
async def test_a_file_that_is_too_large_is_refused(
    server: FileServer, workspace: Path, answer: object, words: str
) -> None:
    """By what the server says of it, or as soon as it shows."""
    server.answer = answer  # type: ignore[assignment]  # one of the two above

    assert words in str(await refusal(workspace, server.url, max_mb=0.5))
    assert names(workspace) == []


async def test_a_file_without_a_length_comes_whole(server: FileServer, workspace: Path) -> None:
    """And one that is cut off in the middle is seen to be."""
    server.answer = chunked
    assert (await download(workspace, server.url, sha256=SHA256)).data["bytes"] == MIB

    def cut(handler: Handler) -> bool:
        handler.head(200, **{"Transfer-Encoding": "chunked"})
        handler.wfile.write(b"10000\r\nnot all of it")
        return True

    server.answer = cut
    assert "the connection broke in the middle" in str(await refusal(workspace, server.url))


@pytest.mark.parametrize(("status", "is_retryable"), [(404, False), (403, False), (429, True), (503, True)])
async def test_a_refusal_of_the_server_is_told(
    server: FileServer, workspace: Path, status: int, is_retryable: bool
) -> None:
    """And whether it is worth another try."""

    def answer(handler: Handler) -> bool:
        handler.head(status, **{"Content-Length": "0"})
        return True

    server.answer = answer
    error = await refusal(workspace, server.url)

    assert f"the server answered {status}" in str(error)
    assert error.retryable is is_retryable


async def test_nobody_there_is_told(workspace: Path) -> None:
    """In the system's words."""
    error = await refusal(workspace, f"http://127.0.0.1:{free_port()}/x")

    assert "Connection refused" in str(error)
    assert error.retryable


async def test_what_is_no_http_is_told(server: FileServer, workspace: Path) -> None:
    """Somebody answers, in another language."""

    def answer(handler: Handler) -> bool:
        handler.wfile.write(b"SSH-2.0-hello\r\n")
        return True

    server.answer = answer
    assert "SSH-2.0-hello" in str(await refusal(workspace, server.url))


async def test_a_silent_server_is_not_waited_for(
    server: FileServer, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And may be tried again."""
    monkeypatch.setattr(fetch, "_SILENCE_S", 0.2)
    server.answer = lambda _: server.gate.wait(10)

    error = await refusal(workspace, server.url)

    assert "the server said nothing for 0.2 s" in str(error)
    assert error.retryable


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "only http:// and https://"),
        ("ftp://host/x", "only http:// and https://"),
        ("data:text/plain,x", "only http:// and https://"),
        ("http://", "only http:// and https://"),
        ("http://me:secret@host/x", "a name or password"),
        ("http://host/a b", "%-escapes"),
        ("http://host/ä", "%-escapes"),
        ("http://host:port/", "Port"),
        ("http://[::1/", "IPv6"),
    ],
)
async def test_only_plain_web_addresses_are_taken(workspace: Path, url: str, words: str) -> None:
    """No other scheme reads a file of this machine."""
    error = await refusal(workspace, url)

    assert words in str(error)
    assert error.code == ErrorCode.BAD_ARGUMENTS
    assert not workspace.exists()


@pytest.mark.parametrize(("file", "words"), [("../x", "outside"), ("/etc/x", "outside"), (".", "name a file")])
async def test_nothing_is_written_outside_of_the_workspace(
    server: FileServer, workspace: Path, file: str, words: str
) -> None:
    """Nor is the server asked."""
    assert words in str(await refusal(workspace, server.url, file=file))
    assert server.asked == []


async def test_a_link_out_of_the_workspace_is_not_followed(server: FileServer, workspace: Path) -> None:
    """Not as a folder, not as the file, and not as its part."""
    outside = workspace.parent / "outside"
    outside.mkdir()
    workspace.mkdir()
    (workspace / "away").symlink_to(outside)
    (workspace / "file.bin.part").symlink_to(outside / "x")

    assert "outside" in str(await refusal(workspace, server.url, file="away/x"))
    await refusal(workspace, server.url)
    assert list(outside.iterdir()) == []


async def test_a_folder_is_no_file(server: FileServer, workspace: Path) -> None:
    """It is said before anything comes."""
    (workspace / "file.bin").mkdir(parents=True)

    assert "file.bin is a folder" in str(await refusal(workspace, server.url))
    assert server.asked == []


async def test_a_workspace_that_cannot_be_made_is_told(server: FileServer, workspace: Path) -> None:
    """Something else has its name."""
    workspace.write_text("a file")
    assert "file.bin cannot be written" in str(await refusal(workspace, server.url))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed(server: FileServer, workspace: Path, status: int) -> None:
    """To another path or host."""
    redirects(server, server.url, status)
    await download(workspace, f"{server.root}/there")
    assert (workspace / "file.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("to", "words"),
    [
        ("file:///etc/passwd", "none that is taken"),
        ("ftp://127.0.0.1/x", "only http:// and https://"),
        ("http://me:secret@127.0.0.1/", "a name or password"),
        ("/round", "more than 5 times"),
    ],
)
async def test_a_redirect_to_nowhere_is_not_followed(server: FileServer, workspace: Path, to: str, words: str) -> None:
    """No server may choose what no caller may."""
    redirects(server, to)
    assert words in str(await refusal(workspace, f"{server.root}/there"))
    assert len(server.asked) <= 7


async def test_five_redirects_are_followed_and_six_are_not(server: FileServer, workspace: Path) -> None:
    """As many as the longest honest chains have."""

    def answer(handler: Handler) -> bool:
        left = int(handler.path[1:]) if handler.path != "/file" else 0
        if left:
            handler.head(302, Location=f"/{left - 1}" if left > 1 else "/file", **{"Content-Length": "0"})
        return bool(left)

    server.answer = answer
    await download(workspace, f"{server.root}/5")
    assert "more than 5 times" in str(await refusal(workspace, f"{server.root}/6"))


@needs_openssl
async def test_encryption_is_not_given_up_on_the_way(
    server: FileServer, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From https to https, and from http to https, but not back; and only to a server that is who it says."""
    certificate = workspace.parent / "certificate.pem"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", str(certificate), "-out", str(workspace.parent / "public.pem")),
        ],
        check=True,
        capture_output=True,
    )
    public = (workspace.parent / "public.pem").read_text()
    certificate.write_text(certificate.read_text() + public)
    with FileServer(certificate) as secure:
        assert "certificate" in str(await refusal(workspace, secure.url)).lower()
        monkeypatch.setenv("SSL_CERT_FILE", str(workspace.parent / "public.pem"))
        await download(workspace, secure.url)
        redirects(server, secure.url)
        await download(workspace, f"{server.root}/there")
        redirects(secure, secure.url)
        await download(workspace, f"{secure.root}/there")
        redirects(secure, server.url)
        error = await refusal(workspace, f"{secure.root}/there")

    assert "which is not encrypted: not followed" in str(error)
    assert (workspace / "file.bin").read_bytes() == CONTENT


async def cancel_when(server: FileServer, workspace: Path, url: str) -> float:
    """Cancel a download once the server says that it is in the middle; how many seconds the end took."""
    context = ToolContext()
    canceled_at: list[float] = []

    def cancel() -> None:
        assert server.is_sending.wait(10)
        canceled_at.append(time.monotonic())
        context.canceled.set()

    canceling = threading.Thread(target=cancel)
    canceling.start()
    with pytest.raises(ToolError, match="cancelled") as caught:
        await download(workspace, url, context)
    canceling.join()
    assert caught.value.code == ErrorCode.CANCELED
    return time.monotonic() - canceled_at[0]


async def test_a_cancelled_download_ends_in_the_middle_of_the_file(server: FileServer, workspace: Path) -> None:
    """The server sends half and then nothing more. What has come is kept, and goes on later."""

    def answer(handler: Handler) -> bool:
        handler.serve(MIB // 2)
        server.is_sending.set()
        return server.gate.wait(10)

    server.answer = answer

    assert await cancel_when(server, workspace, server.url) < 0.5

    server.answer = lambda _: False
    assert (await download(workspace, server.url, sha256=SHA256)).data["bytes"] == MIB


async def test_a_cancelled_download_ends_before_the_first_byte(server: FileServer, workspace: Path) -> None:
    """The server has taken the request, and says nothing."""

    def answer(_: Handler) -> bool:
        server.is_sending.set()
        return server.gate.wait(10)

    server.answer = answer

    assert await cancel_when(server, workspace, server.url) < 0.5
    assert names(workspace) == []


async def test_a_download_that_cannot_connect_is_left_behind(
    server: FileServer, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking up a name cannot be broken off; when it is done at last, nothing is written any more."""
    gate, is_gone = threading.Event(), threading.Event()
    opened, run = fetch.Fetch._open, fetch.Fetch.run

    def slowly(self: fetch.Fetch, left: object) -> object:
        server.is_sending.set()
        gate.wait(10)
        return opened(self, left)  # type: ignore[arg-type]  # as it was called

    def watched(self: fetch.Fetch, folder: int) -> object:
        try:
            return run(self, folder)
        finally:
            is_gone.set()

    monkeypatch.setattr(fetch.Fetch, "_open", slowly)
    monkeypatch.setattr(fetch.Fetch, "run", watched)

    assert await cancel_when(server, workspace, server.url) < 0.5
    gate.set()
    assert is_gone.wait(10)
    assert names(workspace) == []


async def test_one_file_is_not_downloaded_twice_at_once(server: FileServer, workspace: Path) -> None:
    """The second is told so, and the first goes on."""

    def answer(handler: Handler) -> bool:
        if server.asked[1:]:
            return False
        handler.head(200, **{"Content-Length": str(MIB)})
        handler.wfile.write(CONTENT[: MIB // 2])
        server.is_sending.set()
        assert server.gate.wait(10)
        handler.wfile.write(CONTENT[MIB // 2 :])
        return True

    server.answer = answer
    first = asyncio.create_task(download(workspace, server.url, sha256=SHA256))
    part = workspace / "file.bin.part"
    await until(lambda: part.exists() and part.stat().st_size > 0, "the first has begun")
    error = await refusal(workspace, server.url)
    server.gate.set()
    await first

    assert "file.bin is being downloaded already" in str(error)
    assert (workspace / "file.bin").read_bytes() == CONTENT


async def test_it_tells_how_far_it_is(server: FileServer, workspace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for every block: that would be many a second."""
    monkeypatch.setattr(fetch, "_TELL_EVERY_S", 0.0)
    said: list[str] = []
    await download(workspace, server.url, ToolContext(update=said.append))
    assert said[-1] == "file.bin: 1.0 of 1.0 MB"

    monkeypatch.setattr(fetch, "_TELL_EVERY_S", 60.0)
    said.clear()
    await download(workspace, server.url, ToolContext(update=said.append))
    assert said == []


async def test_nothing_of_an_earlier_try_is_taken_on_trust(server: FileServer, workspace: Path) -> None:
    """A part without a word of what it is of, or with one that makes no sense, is begun anew."""
    workspace.mkdir()
    for description in (None, "no JSON", "[]", '{"url": 5}'):
        (workspace / "file.bin.part").write_bytes(b"something else")
        if description is not None:
            (workspace / "file.bin.part.json").write_text(description)
        assert (await download(workspace, server.url, sha256=SHA256)).data["resumed_at"] == 0
