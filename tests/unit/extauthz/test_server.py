"""The real service on a socket, called by a real gRPC client."""

import asyncio
import json
import logging
import os
import socket
import stat
import tempfile
import threading
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import pytest
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2_grpc import LogsServiceStub

from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision, Effect, PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.events import Asked, Decided, Outcome
from extauthz.core.reasons import Reason
from extauthz.core.request import MAX_BODY_BYTES, Request
from extauthz.ports import CheckServer, Server
from extauthz.server import SERVICE, create_server, listen
from protos.gen.external_auth_pb2 import CheckRequest, CheckResponse
from protos.gen.external_auth_pb2_grpc import AuthorizationStub
from tests.tools.waiting import SECONDS, soon

NOW = 1_800_000_000.0
DOCUMENT = {
    "schema_version": "v1",
    "server": {"name": "invoices", "namespace": "shop"},
    "auth": {"mode": "header"},
    "policy": {"mode": "allow-list", "default_decision": "deny"},
    "tools": [{"name": "list", "side_effect": "read"}],
    "grants": [{"name": "g", "namespace": "shop", "human_id": "ann", "max_trust": "low"}],
}


class BrokenSnapshot(Snapshot):
    """A snapshot with a bug; its message quotes what must not be logged."""

    def decide(self, request: Request, now: float) -> Decision:
        raise ValueError(f"secret {request.body!r}")


@dataclass
class Policies:
    """The running policy, swapped by the test."""

    current: Snapshot = field(default_factory=lambda: Snapshot.of(compile_document(DOCUMENT)))


@dataclass
class Audit:
    """Numbers what it records, as the emitter does; `away` is durable mode with a full disk."""

    recorded: list[tuple[Asked, Decision]] = field(default_factory=list)
    outcomes: list[tuple[str, Outcome]] = field(default_factory=list)
    away: bool = False
    broken: bool = False
    disk: threading.Event | None = None  # what recording waits for

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        if self.broken:
            raise ValueError("a bug")
        found = []
        for asked, decided_first in decided:
            decision = replace(decided_first, id=f"id-{len(self.recorded)}")
            if self.away:
                decision = replace(decision, effect=Effect.DENY, reason=Reason.AUDIT_UNAVAILABLE)
            self.recorded.append((asked, decision))
            found.append(decision)
        if self.disk:
            assert self.disk.wait(SECONDS)
        return found

    def outcome(self, decision_id: str, outcome: Outcome) -> None:
        self.outcomes.append((decision_id, outcome))


@dataclass
class Running:
    """A served decision point."""

    channel: grpc.aio.Channel
    socket_file: Path
    policies: Policies
    audit: Audit
    server: Server

    async def check(self, message: CheckRequest) -> CheckResponse:
        answer: CheckResponse = await AuthorizationStub(self.channel).Check(
            message, timeout=SECONDS
        )
        return answer


@pytest.fixture(params=CheckServer)
def kind(request: pytest.FixtureRequest) -> CheckServer:
    """Each of the servers."""
    found: CheckServer = request.param
    return found


@pytest.fixture
async def running(kind: CheckServer) -> AsyncIterator[Running]:
    # Not tmp_path: a socket's path has at most 107 bytes.
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "authz.sock"
        policies, audit = Policies(), Audit()
        server = (await create_server(kind, policies, audit, lambda: NOW)).server
        listen(server, f"unix://{path}")
        await server.start()
        async with grpc.aio.insecure_channel(f"unix://{path}") as channel:
            yield Running(channel, path, policies, audit, server)
        await server.stop(None)


async def heard(running: Running) -> None:
    """Give the server time to hear of all that was sent or given up before."""
    for _ in range(20):
        await HealthStub(running.channel).Check(HealthCheckRequest(service=""))
        await asyncio.sleep(0.02)


def call(tool: str = "list", human: str = "ann", padding: int = 0) -> CheckRequest:
    """tools/call, as Envoy sends it."""
    body = {
        "jsonrpc": "2.0",
        "id": 7,
        "method": "tools/call",
        "params": {"name": tool, "arguments": {"note": "x" * padding}},
    }
    headers = {
        "content-type": b"application/json",
        "x-mcp-human-id": human.encode(),
        "x-request-id": b"u-1",
    }
    return CheckRequest(
        attributes={
            "source": {"address": {"socket_address": {"address": "127.0.0.1"}}},
            "request": {
                "http": {
                    "method": "POST",
                    "path": "/mcp?q=1",
                    "raw_body": json.dumps(body).encode(),
                    "header_map": {
                        "headers": [{"key": k, "raw_value": v} for k, v in headers.items()]
                    },
                }
            },
        }
    )


def reason(response: CheckResponse) -> str:
    text: str = response.dynamic_metadata.fields["reason"].string_value
    return text


async def test_an_allowed_call_passes(running: Running) -> None:
    """OK, recorded, and with the id that the audit trail gave."""
    response = await running.check(call())
    assert (response.status.code, reason(response)) == (0, "allowed")
    assert response.dynamic_metadata.fields["decision_id"].string_value == "id-0"
    [(asked, decision)] = running.audit.recorded
    assert asked == Asked("POST", "/mcp", "u-1", "")
    assert decision.allowed


async def test_a_denied_call_is_answered(running: Running) -> None:
    """With the JSON-RPC error that the client will read."""
    response = await running.check(call(human="bob"))
    assert response.denied_response.status.code == 200
    error = json.loads(response.denied_response.body)
    assert error["id"] == 7
    assert error["error"]["data"]["reason"] == "no_matching_grant"
    assert error["error"]["data"]["decision_id"] == "id-0"


async def test_a_swapped_policy_decides_the_next_call(running: Running) -> None:
    """Check asks for the current policy each time."""
    assert reason(await running.check(call())) == "allowed"
    running.policies.current = Snapshot.unavailable(PolicyFacts(), "no document yet")
    response = await running.check(call())
    assert (reason(response), response.denied_response.status.code) == ("policy_unavailable", 503)


async def test_a_bug_denies_and_is_recorded(
    running: Running, log: pytest.LogCaptureFixture
) -> None:
    """Where it arose is logged; what was asked is not."""
    running.policies.current = BrokenSnapshot(None, PolicyFacts(), 0.0)
    with log.at_level(logging.ERROR):
        response = await running.check(call())
    assert (reason(response), response.denied_response.status.code) == ("internal_error", 503)
    [(asked, decision)] = running.audit.recorded
    assert (asked.path, decision.reason) == ("/mcp", Reason.INTERNAL_ERROR)
    assert "ValueError in decide" in log.text
    assert "secret" not in log.text


async def test_the_audit_trail_may_deny(running: Running) -> None:
    """What cannot be recorded does not pass, where recording must come first."""
    running.audit.away = True
    response = await running.check(call())
    assert (reason(response), response.denied_response.status.code) == ("audit_unavailable", 503)


async def test_calls_under_way_are_answered_when_it_stops(running: Running) -> None:
    """In durable mode they wait for the disk: so does stopping, and takes no others."""
    running.audit.disk = disk = threading.Event()
    waiting = asyncio.create_task(running.check(call()))
    await soon(lambda: running.audit.recorded)
    stopping = asyncio.create_task(running.server.stop(SECONDS))
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in (waiting, stopping))
    disk.set()
    assert reason(await waiting) == "allowed"
    await stopping
    with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
        await running.check(call())


async def test_calls_that_wait_together_are_recorded_together(running: Running) -> None:
    """What comes while the disk is busy is one batch, or few."""
    batches: list[int] = []
    record = running.audit.record

    def counted(decided: Sequence[Decided]) -> list[Decision]:
        batches.append(len(decided))
        return record(decided)

    running.audit.record = counted  # type: ignore[method-assign]
    running.audit.disk = disk = threading.Event()
    waiting = [asyncio.create_task(running.check(call())) for _ in range(50)]
    await soon(lambda: running.audit.recorded)
    await heard(running)
    disk.set()
    assert {reason(answer) for answer in await asyncio.gather(*waiting)} == {"allowed"}
    assert sum(batches) == 50
    assert len(batches) < 25


async def test_a_caller_that_leaves_undoes_nothing(running: Running) -> None:
    """Its call is recorded, and the next one is answered."""
    running.audit.disk = disk = threading.Event()
    first = asyncio.create_task(running.check(call()))
    await soon(lambda: running.audit.recorded)
    first.cancel()
    disk.set()
    assert reason(await running.check(call())) == "allowed"
    assert len(running.audit.recorded) == 2


async def test_what_nobody_waits_for_is_not_decided(running: Running) -> None:
    """Envoy gave these up while the thread was busy: deciding them would only feed the overload."""
    running.audit.disk = disk = threading.Event()
    first = asyncio.create_task(running.check(call()))
    await soon(lambda: running.audit.recorded)
    late = [
        AuthorizationStub(running.channel).Check(call(padding=size), timeout=0.05)
        for size in (1, 400_000)
    ]
    for each in late:
        with pytest.raises(grpc.aio.AioRpcError, match="DEADLINE_EXCEEDED"):
            await each
    await heard(running)  # its own clock would do
    disk.set()
    assert reason(await first) == reason(await running.check(call())) == "allowed"
    assert len(running.audit.recorded) == 2


async def test_a_broken_trail_lets_nothing_pass(
    running: Running, log: pytest.LogCaptureFixture
) -> None:
    """An error, which Envoy answers with 503; the next call is answered."""
    running.audit.broken = True
    with pytest.raises(grpc.aio.AioRpcError, match="INTERNAL"):
        await running.check(call())
    assert "check failed error='ValueError'" in log.text
    running.audit.broken = False
    assert reason(await running.check(call())) == "allowed"


PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")  # settings
BROKEN = {
    "another protocol": b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "garbage": bytes(range(256)) * 64,
    "half a preface": PREFACE[:10],
    "a frame that never ends": PREFACE + bytes.fromhex("001fff000100000001"),
    "a frame above the limit": PREFACE + bytes.fromhex("ffffff000000000001") + b"x" * 70_000,
    "headers that do not decode": PREFACE + bytes.fromhex("000004010400000001") + b"\xff" * 4,
    "resets without end": PREFACE + bytes.fromhex("00000403000000000100000008") * 2000,
    "settings without end": PREFACE + bytes.fromhex("000000040000000000") * 5000,
}


@pytest.mark.parametrize("sent", BROKEN.values(), ids=BROKEN)
async def test_a_broken_client_stops_no_other(running: Running, sent: bytes) -> None:
    """It hangs or is cut; others are answered meanwhile and afterwards."""
    opened = [await asyncio.open_unix_connection(running.socket_file) for _ in range(20)]
    for _, writer in opened:
        writer.write(sent)
    assert reason(await running.check(call())) == "allowed"
    for _, writer in opened:
        writer.close()
    assert reason(await running.check(call())) == "allowed"


async def test_a_thousand_calls_at_once_are_all_answered(running: Running) -> None:
    """On one connection, each with its own id."""
    answers = await asyncio.gather(*(running.check(call()) for _ in range(1000)))
    ids = {answer.dynamic_metadata.fields["decision_id"].string_value for answer in answers}
    assert len(ids) == len(running.audit.recorded) == 1000


async def test_an_empty_message_is_denied(running: Running) -> None:
    """Nothing that Envoy may leave out breaks Check."""
    response = await running.check(CheckRequest())
    assert response.WhichOneof("http_response") == "denied_response"
    assert reason(response) == "http_method_not_allowed"


async def test_the_largest_body_fits(running: Running) -> None:
    """All that Envoy buffers, with headers beside it: above gRPC's own limit of 4 MiB."""
    message = call(padding=MAX_BODY_BYTES - 200)
    big = message.attributes.request.http.header_map.headers.add()
    big.key, big.raw_value = "x-big", b"h" * 60_000
    assert message.ByteSize() > MAX_BODY_BYTES
    assert reason(await running.check(message)) == "allowed"


async def test_outcomes_reach_the_audit_trail(running: Running) -> None:
    """Envoy's access log on the same socket."""
    message = ExportLogsServiceRequest()
    record = message.resource_logs.add().scope_logs.add().log_records.add()
    record.body.string_value = "id-0 200 1500 1 70 245 -"
    await LogsServiceStub(running.channel).Export(message, timeout=SECONDS)
    await soon(lambda: running.audit.outcomes)
    assert running.audit.outcomes == [("id-0", Outcome(200, 1.5, 70, 245))]


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_health_serves(running: Running, service: str) -> None:
    """For the server as a whole and for Check, with a policy or without."""
    running.policies.current = Snapshot.unavailable(PolicyFacts(), "no document yet")
    answer = await HealthStub(running.channel).Check(HealthCheckRequest(service=service))
    assert answer.status == HealthCheckResponse.SERVING


async def test_the_socket_is_the_owners_alone(running: Running) -> None:
    """Mode 0600, and the process's own mask is as before."""
    assert stat.S_IMODE(running.socket_file.stat().st_mode) == 0o600
    before = os.umask(0)
    os.umask(before)
    assert before != 0o177


async def unbound(kind: CheckServer) -> Server:
    return (await create_server(kind, Policies(), Audit(), lambda: NOW)).server


async def test_a_free_tcp_port_is_told(kind: CheckServer) -> None:
    """Port 0 takes any."""
    server = await unbound(kind)
    assert listen(server, "127.0.0.1:0") > 1
    await server.stop(None)


async def test_a_taken_port_says_what_to_do(kind: CheckServer) -> None:
    """No second process shares it silently."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(Invalid, match=f"`{address}` cannot be bound; name a free port"):
            listen(await unbound(kind), address)


async def test_a_socket_in_no_folder_says_what_to_do(kind: CheckServer, tmp_path: Path) -> None:
    """The folder must exist."""
    with pytest.raises(Invalid, match="in a folder that exists"):
        listen(await unbound(kind), f"unix://{tmp_path}/absent/authz.sock")


async def test_the_end_of_the_thread_that_answers_is_told(
    running: Running, log: pytest.LogCaptureFixture
) -> None:
    """It does not die unseen, with Envoy waiting for nobody."""

    def broken(decided: Sequence[Decided]) -> list[Decision]:
        raise SystemExit

    running.audit.record = broken  # type: ignore[method-assign]
    waiting = asyncio.create_task(running.check(call()))
    async with asyncio.timeout(SECONDS):
        await running.server.ended()
    assert "the thread that answers ended" in log.text
    waiting.cancel()
