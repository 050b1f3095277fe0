"""The decision point's gRPC server: Check, Envoy's access log, health."""

import logging
import os
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from extauthz import accesslog
from extauthz.accesslog import AccessLogReceiver
from extauthz.core.decide import Snapshot, failed
from extauthz.core.decision import Decision
from extauthz.core.errors import Invalid
from extauthz.core.events import Asked, Decided, Outcome
from extauthz.grpcioserver import GrpcioServer
from extauthz.nativeserver import NativeServer
from extauthz.request import to_asked, to_request
from extauthz.response import to_response
from protos.gen.external_auth_pb2 import CheckRequest

SERVICE = "envoy.service.auth.v3.Authorization"
CHECK = f"/{SERVICE}/Check"
LOG = f"/{accesslog.SERVICE}/{accesslog.METHOD}"
MAX_BODY_BYTES = 4 << 20  # Envoy's max_request_bytes
MAX_HEADER_BYTES = 1 << 20  # far above what Envoy lets through, names and framing included

_log = logging.getLogger(__name__)


class Kind(StrEnum):
    """Who speaks HTTP/2; README.md tells how the two were measured."""

    NATIVE = "native"  # pygrpc-native: in Rust, outside the interpreter's lock
    GRPCIO = "grpcio"  # grpc.aio


class Policies(Protocol):
    """Where the running policy is found; a source swaps it as a whole."""

    @property
    def current(self) -> Snapshot: ...


class Audit(Protocol):
    """Where decisions and outcomes go."""

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        """Offer decisions to the audit trail. For the thread that answers Check.

        Returns:
            Each decision with its id; a denial (audit_unavailable) where it must be on disk first
            and cannot be. Never raises.
        """

    def outcome(self, decision_id: str, outcome: Outcome) -> Decided | None:
        """Join the outcome to its decision. For the event loop. Never blocks, never raises.

        Returns:
            What ended, once, as long as it is remembered.
        """


class Check:
    """Parse, decide, record, answer."""

    def __init__(self, policies: Policies, audit: Audit, clock: Callable[[], float]) -> None:
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
    except Exception as error:  # the only broad catch: a bug denies
        _log.error("check failed: %s", _place(error))
        return asked, failed(policy.facts)


def _write(decision: Decision) -> bytes | None:
    try:
        return to_response(decision)
    except Exception as error:  # it is recorded, and Envoy answers 503
        _log.error("answer failed: %s", _place(error))
        return None


def _place(error: Exception) -> str:
    """The error's type and where it arose; its message could quote what was asked."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, {frame.filename}:{frame.lineno}"


class Server(Protocol):
    """Speaks gRPC on one port."""

    def add_insecure_port(self, address: str) -> int: ...

    async def start(self) -> None: ...

    async def stop(self, grace: float | None) -> None: ...


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
    kind: Kind,
    policies: Policies,
    audit: Audit,
    clock: Callable[[], float],
    max_body_bytes: int = MAX_BODY_BYTES,
) -> Serving:
    """Make a server that takes whatever body Envoy buffers, its headers beside it."""
    max_bytes = max_body_bytes + MAX_HEADER_BYTES
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
    if kind is Kind.NATIVE:
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
