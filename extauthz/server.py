"""The decision point's gRPC server: Check, Envoy's access log, health."""

import logging
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from extauthz import accesslog
from extauthz.accesslog import AccessLogReceiver
from extauthz.core.decide import Snapshot, failed
from extauthz.core.decision import Decision
from extauthz.core.errors import Invalid
from extauthz.core.events import Asked, Decided
from extauthz.core.request import MAX_BODY_BYTES
from extauthz.grpcioserver import GrpcioServer
from extauthz.nativeserver import NativeServer
from extauthz.ports import Audit, CheckServer, Server, Snapshots
from extauthz.request import to_asked, to_request
from extauthz.response import to_response
from protos.gen.external_auth_pb2 import CheckRequest

SERVICE = "envoy.service.auth.v3.Authorization"
CHECK = f"/{SERVICE}/Check"
LOG = f"/{accesslog.SERVICE}/{accesslog.METHOD}"
MAX_HEADER_BYTES = 1 << 20  # far above what Envoy lets through, names and framing included

_log = logging.getLogger(__name__)


class Check:
    """Parse, decide, record, answer."""

    def __init__(self, policies: Snapshots, audit: Audit, clock: Callable[[], float]) -> None:
        """Take `clock` as seconds since the epoch."""
        self._policies, self._audit, self._clock = policies, audit, clock

    def answer(self, messages: Sequence[bytes]) -> list[bytes | None]:
        """Answer requests of Envoy's, in order; None where an answer cannot be written."""
        policy, now = self._policies.current, self._clock()
        decided = [_decide(policy, message, now) for message in messages]
        return [_write(decision) for decision in self._audit.record(decided)]


def _decide(policy: Snapshot, message: bytes, now: float) -> Decided:
    asked = Asked("", "")
    try:
        request = to_request(CheckRequest.FromString(message))
        asked = to_asked(request)
        return asked, policy.decide(request, now)
    except Exception as error:  # the only broad catch on the way to a decision: a bug denies
        _log.error("check failed", extra={"error": _place(error)})
        return asked, failed(policy.facts)


def _write(decision: Decision) -> bytes | None:
    try:
        return to_response(decision)
    except Exception as error:  # it is recorded, and Envoy answers 503
        _log.error("answer failed", extra={"error": _place(error)})
        return None


def _place(error: Exception) -> str:
    """The error's type and where it arose; its message could quote what was asked."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, {frame.filename}:{frame.lineno}"


@dataclass(frozen=True, slots=True)
class Serving:
    """A server and what stands behind it.

    Args:
        server: not bound yet; see `listen`.
        log: receives the access log; for its counters.
        health: await its `enter_graceful_shutdown` when draining.
    """

    server: Server
    log: AccessLogReceiver
    health: health.HealthServicer


async def create_server(
    kind: CheckServer,
    policies: Snapshots,
    audit: Audit,
    clock: Callable[[], float],
) -> Serving:
    """Make a server that takes whatever body Envoy may buffer, its headers beside it."""
    max_bytes = MAX_BODY_BYTES + MAX_HEADER_BYTES
    options = [
        ("grpc.max_receive_message_length", max_bytes),
        ("grpc.so_reuseport", 0),  # a second process on the port must fail, not share it
    ]
    behind, healthy = grpc.aio.server(options=options), health.HealthServicer()
    add_HealthServicer_to_server(healthy, behind)
    # Without a policy too: Check then answers with a reason, which a closed port would not.
    await healthy.set(SERVICE, HealthCheckResponse.SERVING)
    receiver, answer = AccessLogReceiver(audit), Check(policies, audit, clock).answer
    server: Server
    if kind is CheckServer.NATIVE:
        server = NativeServer(
            CHECK, LOG, answer=answer, take=receiver.take, behind=behind, max_bytes=max_bytes
        )
    else:
        server = GrpcioServer(CHECK, LOG, answer=answer, take=receiver.take, server=behind)
    return Serving(server, receiver, healthy)


def listen(server: Server, address: str) -> int:
    """Bind the server, before it is started.

    Args:
        address: `unix:///run/authz.sock`, a file of mode 0600, or `127.0.0.1:9001` (port 0: any).

    Returns:
        The TCP port; 1 for a socket file.

    Raises:
        Invalid: it cannot be bound.
    """
    before = os.umask(0o177)  # the file must not be open to others for a moment even
    try:
        return server.add_insecure_port(address)
    except RuntimeError as error:
        raise Invalid(
            "address",
            f"`{address}` cannot be bound",
            "name a free port, or a socket file of at most 103 bytes in a folder that exists",
        ) from error
    finally:
        os.umask(before)
