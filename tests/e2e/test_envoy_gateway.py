"""The gateway's Envoy before two real servers."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.tools.envoy_process import RunningEnvoy, running_gateway
from tests.tools.raw_http import exchange, get, post
from tests.tools.recording_server import ODD_BODY, RecordingServer, recording
from tests.tools.waiting import eventually


@pytest.fixture(scope="module")
def ui() -> Iterator[RecordingServer]:
    with recording() as running:
        yield running


@pytest.fixture(scope="module")
def ingest() -> Iterator[RecordingServer]:
    with recording() as running:
        yield running


@pytest.fixture(scope="module")
def gateway(ui: RecordingServer, ingest: RecordingServer) -> Iterator[RunningEnvoy]:
    with running_gateway(ui.url, ingest.url) as running:
        yield running


@pytest.mark.parametrize(
    ("path", "at_ui", "at_ingest"),
    [
        ("/", "/", None),
        ("/api/v1/stats?limit=1", "/api/v1/stats?limit=1", None),
        ("/ingestion", "/ingestion", None),
        ("/ingest", None, "/"),
        ("/ingest/event?a=1", None, "/event?a=1"),
        ("/ingest/../api", "/api", None),
    ],
)
def test_paths_go_to_their_service(
    gateway: RunningEnvoy,
    ui: RecordingServer,
    ingest: RecordingServer,
    path: str,
    at_ui: str | None,
    at_ingest: str | None,
) -> None:
    """Everything goes to the ui, but what is under /ingest, whose prefix is taken off."""
    ui.reset()
    ingest.reset()
    answer = exchange(gateway.port, post(path, "X-Api-Key: k\r\nX-Envoy-Original-Path: /x\r\n"))
    assert (answer.status, answer.body) == (201, ODD_BODY)
    assert [seen.path for seen in ui.requests] == ([at_ui] if at_ui else [])
    assert [seen.path for seen in ingest.requests] == ([at_ingest] if at_ingest else [])
    (seen,) = ui.requests + ingest.requests
    assert seen.values("x-api-key") == ["k"]
    assert not [name for name, _ in seen.headers if name.lower().startswith("x-envoy")]


def test_ping_is_answered_by_the_gateway(gateway: RunningEnvoy) -> None:
    """`/ping` tells that the gateway lives, whatever the services do."""
    answer = exchange(gateway.port, get("/ping"))
    assert (answer.status, answer.body) == (200, b"OK\n")


def test_refusals_are_problem_documents(gateway: RunningEnvoy) -> None:
    """Envoy's own errors are problem documents whose members are all strings."""
    answer = exchange(gateway.port, get("/ingest%2fevents"))
    assert answer.status == 400
    assert answer.values("content-type") == ["application/problem+json"]
    assert {"error", "message", "type", "title", "detail"} == set(answer.json())
    assert all(isinstance(member, str) for member in answer.json().values())


def test_an_absent_service_is_named_an_outage() -> None:
    """A service that does not listen gives 503 and says what to do."""
    with running_gateway("http://127.0.0.1:1", "http://127.0.0.1:1") as gateway:
        answer = exchange(gateway.port, get("/"))
    assert answer.status == 503
    assert answer.json()["error"] == "service_unavailable"


def test_access_log_leaves_queries_out(gateway: RunningEnvoy) -> None:
    """The access log has every request with its service, and no query."""
    answer = exchange(gateway.port, get("/api/stats?api_key=hush"))
    (request_id,) = answer.values("x-request-id")
    log = gateway.folder / "access.jsonl"

    def told() -> list[dict[str, Any]]:
        whole = log.read_text().rpartition("\n")[0]
        lines: list[dict[str, Any]] = [json.loads(line) for line in whole.splitlines()]
        return [each for each in lines if each["request_id"] == request_id]

    (line,) = eventually(told, "the access log has the request")
    assert (line["service"], line["path"], line["status"]) == ("ui", "/api/stats", 201)
    assert "hush" not in log.read_text()
