"""The corpus through real Envoy and decision point, before servers that keep which tools ran."""

import json
import socket
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from io import BufferedReader
from pathlib import Path

import pytest
from servers.guard import guarded, outcome, running_decision_point
from servers.running import SERVERS, Server, running

from tests.corpus.case import PASSES, Case, load
from tests.tools.recording_server import RecordingServer, recording

HOSTILE, BENIGN = load("hostile-*"), load("benign-*")
REPORT = Path("build/corpus/executed.json")
DENIED_TOOL = "refund"
GUARDED_SECONDS, UNGUARDED_SECONDS = 15.0, 1.0  # servers may wait for ever for what never comes


@pytest.fixture(scope="module")
def check_socket() -> Iterator[str]:
    with running_decision_point() as path:
        yield path


@pytest.fixture(scope="module", params=SERVERS)
def server(
    tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[Server]:
    with running(request.param, tmp_path_factory.mktemp("server")) as started:
        yield started


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
