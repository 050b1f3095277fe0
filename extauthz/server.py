"""The decision point's gRPC server: Check, Envoy's access log, health."""

import logging
import os
import traceback
from collections.abc import Callable
from enum import StrEnum
from typing import Protocol

import grpc
from grpc_health.v1.health import aio as health
from grpc_health.v1.health_pb2 import HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import add_HealthServicer_to_server

from extauthz.accesslog import AccessLogReceiver, OutcomeLog
from extauthz.core.decide import Snapshot, failed
from extauthz.core.decision import Decision
from extauthz.core.errors import Invalid
from extauthz.core.events import Asked
from extauthz.nativeserver import NativeServer
from extauthz.request import to_asked, to_request
from extauthz.response import to_response
from protos.gen.access_log_pb2_grpc import add_AccessLogServiceServicer_to_server
from protos.gen.external_auth_pb2 import CheckRequest, CheckResponse
from protos.gen.external_auth_pb2_grpc import (
    AuthorizationServicer,
    add_AuthorizationServicer_to_server,
)

SERVICE = "envoy.service.auth.v3.Authorization"
CHECK = f"/{SERVICE}/Check"
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


class Audit(OutcomeLog, Protocol):
    """Where decisions go."""

    async def record(self, asked: Asked, decision: Decision) -> Decision:
        """Offer the decision to the audit trail.

        Returns:
            The decision with its id; a denial (audit_unavailable) where it must be on disk first
            and cannot be. Never raises, and a caller that goes away does not undo it.
        """


class AuthorizationService(AuthorizationServicer):
    """Parse, decide, record, answer."""

    def __init__(self, policies: Policies, audit: Audit, clock: Callable[[], float]) -> None:
        """Take `clock` as seconds since the epoch."""
        self._policies, self._audit, self._clock = policies, audit, clock

    async def Check(self, message: CheckRequest, context: object) -> CheckResponse:  # noqa: N802
        """Answer one request of Envoy's."""
        asked, policy = Asked("", ""), self._policies.current
        try:
            request = to_request(message)
            asked = to_asked(request)
            decision = policy.decide(request, self._clock())
        except Exception as error:  # the only broad catch: a bug denies
            _log.error("check failed: %s", _place(error))
            decision = failed(policy.facts)
        decision = await self._audit.record(asked, decision)
        return to_response(decision)


def _place(error: Exception) -> str:
    """The error's type and where it arose; its message could quote what was asked."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__} in {frame.name}, {frame.filename}:{frame.lineno}"


def create_server(kind: Kind, max_body_bytes: int = MAX_BODY_BYTES) -> grpc.aio.Server:
    """Make a server that takes whatever body Envoy buffers, its headers beside it."""
    options = [
        ("grpc.max_receive_message_length", max_body_bytes + MAX_HEADER_BYTES),
        ("grpc.so_reuseport", 0),  # a second process on the port must fail, not share it
    ]
    if kind is Kind.NATIVE:
        return NativeServer(CHECK, max_body_bytes + MAX_HEADER_BYTES, options)
    return grpc.aio.server(options=options)


async def add_services(
    server: grpc.aio.Server, policies: Policies, audit: Audit, clock: Callable[[], float]
) -> tuple[AccessLogReceiver, health.HealthServicer]:
    """Register Check, the access log and health.

    Returns:
        The access log's receiver, for its counters, and the health service; await its
        `enter_graceful_shutdown` when draining.
    """
    receiver, healthy = AccessLogReceiver(audit), health.HealthServicer()
    check = AuthorizationService(policies, audit, clock)
    add_AuthorizationServicer_to_server(check, server)  # type: ignore[no-untyped-call]
    add_AccessLogServiceServicer_to_server(receiver, server)  # type: ignore[no-untyped-call]
    add_HealthServicer_to_server(healthy, server)
    # Without a policy too: Check then answers with a reason, which a closed port would not.
    await healthy.set(SERVICE, HealthCheckResponse.SERVING)
    return receiver, healthy


def listen(server: grpc.aio.Server, address: str) -> int:
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
