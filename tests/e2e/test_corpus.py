"""The corpus through real Envoy and decision point, before servers that keep which tools ran."""

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from io import BufferedReader
from pathlib import Path

import pytest
from servers.running import SERVERS, Server, await_listening, running, stop

from tests.corpus.case import ACCESS, PASSES, Case, load
from tests.tools.envoy_process import running_sidecar
from tests.tools.recording_server import RecordingServer, recording

HOSTILE, BENIGN = load("hostile-*"), load("benign-*")
REPORT = Path("build/corpus/executed.json")
DENIED_TOOL = "refund"
GUARDED_SECONDS, UNGUARDED_SECONDS = 15.0, 1.0  # servers may wait for ever for what never comes


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path: that of a socket ends at 107 bytes."""
    with tempfile.TemporaryDirectory(prefix="corpus-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def check_socket(folder: Path) -> Iterator[str]:
    """A real decision point with the corpus's policy; no ingest, it spools."""
    path = str(folder / "check.sock")
    settings = {
        "ACCESS_DIR": str(ACCESS),
        "CHECK_ADDRESS": f"unix:{path}",
        "MCP_SENTINEL_INGEST_URL": "http://127.0.0.1:9/events",
        "SPOOL_DIR": str(folder / "spool"),
        "METRICS_PORT": "0",
        "DRAIN_SECONDS": "1",
    }
    (folder / "spool").mkdir()
    with (folder / "log").open("wb") as log:
        words = (sys.executable, "-m", "extauthz")
        process = subprocess.Popen(words, env=os.environ | settings, stdout=log, stderr=log)
    try:
        await_listening(process, path)
        yield path
    finally:
        stop(process)


@pytest.fixture(scope="module", params=SERVERS)
def server(folder: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    with running(request.param, folder) as started:
        yield started


@contextmanager
def guarded(upstream: str, check_socket: str) -> Iterator[int]:
    """An Envoy before `upstream`: its port."""
    with running_sidecar(upstream, check_socket=check_socket) as envoy:
        yield envoy.port


def read_answer(stream: BufferedReader, *, headless: bool) -> tuple[int, bytes]:
    """One response: its status, and its body unless it is one to HEAD."""
    line = stream.readline()
    if not line:
        raise EOFError
    status, headers = int(line.split(b" ")[1]), {}
    while line := stream.readline().strip():
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    if headless or status < 200 or status in (204, 304):
        return status, b""
    if headers.get(b"transfer-encoding") != b"chunked":
        return status, stream.read(int(headers.get(b"content-length", b"-1")))
    body = b""
    while size := int(stream.readline(), 16):
        body += stream.read(size)
        stream.readline()
    stream.readline()
    return status, body


def outcome(status: int, body: bytes) -> str:
    """As `Case.expect` writes it."""
    try:
        data = json.loads(body)["error"]["data"]
        reason = data["reason"]
    except (ValueError, KeyError, TypeError):
        return PASSES if status < 300 or body else str(status)
    return str(reason) if "decision_id" in data else f"{status} {reason}"


def send(port: int, case: Case, seconds: float) -> list[str]:
    """Send the bytes; the outcome of each response, as far as they come."""
    told: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(suppress(OSError, EOFError, ValueError, IndexError))
        connection = stack.enter_context(socket.create_connection(("127.0.0.1", port), seconds))
        with suppress(BrokenPipeError, ConnectionResetError):  # refused half-way
            connection.sendall(case.sent)
        stream = stack.enter_context(connection.makefile("rb"))
        for _ in case.expect:
            status, body = read_answer(stream, headless=case.head.startswith(b"HEAD"))
            told.append("100" if status == 100 else outcome(status, body))
    return told


def test_no_hostile_case_runs_the_denied_tool(server: Server, check_socket: str) -> None:
    """Each is refused for its reason, and the server never runs the tool that was not granted."""
    with guarded(server.url, check_socket) as port:
        found = {case.id: tuple(send(port, case, GUARDED_SECONDS)) for case in HOSTILE}
    assert DENIED_TOOL not in server.executed()
    expected = {case.id: case.expect for case in HOSTILE}
    assert {each: told for each, told in found.items() if told != expected[each]} == {}


def test_the_corpus_is_sharp(server: Server) -> None:
    """Unguarded, the same bytes make every server run the denied tool; the report says which."""
    ran: list[str] = []
    count = 0
    for case in HOSTILE:
        send(server.port, case, UNGUARDED_SECONDS)
        before, count = count, server.executed().count(DENIED_TOOL)
        if count > before:
            ran.append(case.id)
    report = json.loads(REPORT.read_text()) if REPORT.exists() else {}
    report[server.name] = {"sent": len(HOSTILE), "executed": len(ran), "cases": ran}
    REPORT.parent.mkdir(parents=True, exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=1) + "\n")
    assert len(ran) >= len(HOSTILE) // 8


@pytest.fixture(scope="module")
def recorder() -> Iterator[RecordingServer]:
    with recording() as started:
        yield started


@pytest.fixture(scope="module")
def recorded(recorder: RecordingServer, check_socket: str) -> Iterator[int]:
    with guarded(recorder.url, check_socket) as port:
        yield port


@pytest.mark.parametrize("case", BENIGN, ids=lambda case: case.id)
def test_benign_requests_pass_byte_for_byte(
    recorder: RecordingServer, recorded: int, case: Case
) -> None:
    """Method, path, headers and body reach the server as they were sent."""
    recorder.reset()
    assert send(recorded, case, GUARDED_SECONDS) == [PASSES]
    (seen,) = recorder.requests
    first, *lines = case.head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    assert first == f"{seen.method} {seen.path} HTTP/1.1"
    assert seen.body == (case.body if case.arrives is None else case.arrives)
    sent = [tuple(line.split(": ", 1)) for line in lines]
    joined = ("accept",)  # Envoy joins a repeated one by a comma
    kept = [pair for pair in sent if pair[0].lower() not in joined]
    assert [pair for pair in seen.headers if pair in kept] == kept
