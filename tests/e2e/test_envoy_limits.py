"""The sidecar's Envoy when something is missing, slow, crowded or going away."""

import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from protos.gen.external_auth_pb2 import CheckRequest, CheckResponse
from tests.tools.decision_stub import DecisionStub, allow, serving
from tests.tools.envoy_process import running_sidecar
from tests.tools.raw_http import connection, exchange, get, post, read_response, read_until
from tests.tools.recording_server import EVENTS, RecordingServer, recording
from tests.tools.waiting import eventually


@pytest.fixture(scope="module")
def server() -> Iterator[RecordingServer]:
    with recording() as running:
        yield running


def too_late(asked: CheckRequest) -> CheckResponse:
    """Allow, when nobody waits any more."""
    time.sleep(1)
    return allow(asked)


def is_refused(port: int) -> bool:
    """Whether nobody listens any more."""
    try:
        with connection(port):
            return False
    except ConnectionRefusedError:
        return True


def test_without_decision_point_nothing_passes(server: RecordingServer) -> None:
    """With the check socket absent the answer is 503, never a pass; the file has it."""
    server.reset()
    with running_sidecar(server.url) as envoy:
        answer = exchange(envoy.port, post())
        assert answer.status == 503
        assert answer.json()["error"]["code"] == -32603
        assert answer.json()["error"]["data"]["reason"] == "decision_unavailable"
        assert envoy.undecided(lambda line: line["details"] == "ext_authz_error")
    assert server.requests == []


def test_a_silent_decision_point_is_an_outage(server: RecordingServer) -> None:
    """A decision that does not come in time is a 503; the server is not called."""
    server.reset()
    stub = DecisionStub()
    with (
        running_sidecar(server.url, check_seconds=0.2) as envoy,
        serving(stub, envoy.check_socket),
    ):
        stub.answer = too_late
        assert exchange(envoy.port, post()).status == 503
    assert server.requests == []


def test_a_slow_body_is_cut_off(server: RecordingServer) -> None:
    """A body that does not arrive in time is a 408; the server is not called."""
    server.reset()
    with (
        running_sidecar(server.url, request_seconds=1.0) as envoy,
        connection(envoy.port) as slow,
    ):
        slow.sendall(post(body=b"x" * 10)[:-5])
        answer = read_response(slow)
        assert answer.status == 408
        assert answer.json()["error"]["data"]["reason"] == "request_timeout"
    assert server.requests == []


def test_a_crowd_is_turned_away(server: RecordingServer) -> None:
    """A connection beyond the limit is closed without an answer; the admin still answers."""
    with (
        running_sidecar(server.url, max_connections=2) as envoy,
        connection(envoy.port),
        connection(envoy.port),
        connection(envoy.port) as third,
    ):
        with suppress(ConnectionError):
            third.sendall(post())
        with pytest.raises((AssertionError, ConnectionError)):
            read_response(third)
        assert envoy.admin.ready()


def test_draining_lets_streams_end(server: RecordingServer) -> None:
    """A drained Envoy refuses new connections and finishes what is open."""
    server.reset()
    with (
        running_sidecar(server.url) as envoy,
        serving(DecisionStub(), envoy.check_socket),
        connection(envoy.port) as client,
    ):
        client.sendall(get("/events"))
        read_until(client, EVENTS[0])
        assert envoy.admin.open_requests() == 1
        envoy.admin.drain(graceful=False)
        # Envoy closes its listeners after it has answered.
        eventually(lambda: is_refused(envoy.port), "nobody listens")
        server.more.set()
        read_until(client, EVENTS[1])


def test_host_is_rewritten_when_asked(server: RecordingServer) -> None:
    """A server that insists on its own Host gets it, but not for a page that rebinds its name."""
    sent = ["127.0.0.1", "LocalHost:8091", "[::1]:8091", "evil.test", "localhost.evil.test:8091"]
    server.reset()
    with (
        running_sidecar(server.url, host_rewrite="localhost:8090") as envoy,
        serving(DecisionStub(), envoy.check_socket),
    ):
        for host in sent:
            exchange(envoy.port, post().replace(b"server.test", host.encode()))
    seen = [value for request in server.requests for value in request.values("host")]
    assert seen == ["localhost:8090"] * 3 + sent[3:]


def test_a_deep_folder_does_not_matter(server: RecordingServer, tmp_path: Path) -> None:
    """Relative socket paths serve in a folder too deep for absolute ones."""
    deep = tmp_path / ("d" * 100) / ("e" * 100)
    deep.mkdir(parents=True)
    with running_sidecar(server.url, deep) as envoy:
        assert envoy.admin.ready()
        assert exchange(envoy.port, post()).status == 503
    assert not envoy.admin.ready()
