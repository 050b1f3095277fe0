"""The gRPC server of the policy stream: TLS by a certificate that may change while it runs."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import grpc

from backend.controller.certificates import Certificate, Certificates
from backend.controller.stream import PolicyStream
from extauthz.core.errors import Invalid, Retryable, SentinelError
from protos.gen.policy_stream_pb2_grpc import add_PolicyStreamServicer_to_server

REFRESH_SECONDS: Final = 3600.0  # between two looks at the certificate
RETRY_SECONDS: Final = 2.0
STOP_SECONDS: Final = 1.0
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", 64 << 10),  # sidecars send acknowledgements
    ("grpc.so_reuseport", 0),
    # A sidecar that vanished is noticed within half a minute, and may ask every 5 s itself.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Without this one a ping that went out is waited for during a minute.
    ("grpc.http2.ping_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", 2_000),
    ("grpc.http2.max_ping_strikes", 0),
)

_log = logging.getLogger(__name__)


class StreamServer:
    """Serves one `PolicyStream`.

    Args:
        port: 0 lets the system choose; `port` tells which, once it serves.

    Attributes:
        authority: PEM of who signed its certificate; empty where sidecars know it.
    """

    def __init__(
        self, stream: PolicyStream, certificates: Certificates, host: str, port: int
    ) -> None:
        self._stream, self._certificates, self._host, self.port = stream, certificates, host, port
        self.authority = b""
        self._used: Certificate | None = None
        self._is_told = False
        self._server: grpc.aio.Server | None = None

    async def run(self, ready: Callable[[], None]) -> None:
        """Serve until cancelled. Raises: Invalid: nobody can listen there."""
        await self._load()
        server = self._server = grpc.aio.server(options=_OPTIONS)
        add_PolicyStreamServicer_to_server(self._stream, server)  # type: ignore[no-untyped-call]
        address = f"[{self._host}]" if ":" in self._host else self._host
        credentials = grpc.dynamic_ssl_server_credentials(
            self._configuration(),
            self._newer,  # type: ignore[arg-type]  # None: as it was
        )
        try:
            self.port = server.add_secure_port(f"{address}:{self.port}", credentials)
        except RuntimeError as error:
            problem = f"`{address}:{self.port}` cannot be listened on"
            mend = "set another port or host, or stop what holds it"
            raise Invalid("CONTROLLER_PORT", problem, mend) from error
        await server.start()
        ready()
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            await self._refresh()

    async def stop(self) -> None:
        """Let go of everybody."""
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)

    async def _load(self) -> None:
        """The first certificate: without one nobody can be served."""
        fault = ""
        while self._used is None:
            try:
                self._take(await self._certificates.current())
            except Retryable as error:
                if fault != str(error):
                    fault = str(error)
                    _log.warning("no certificate yet", extra={"error": fault})
                await asyncio.sleep(RETRY_SECONDS)

    async def _refresh(self) -> None:
        try:
            found = await self._certificates.current()
        except SentinelError as error:
            _log.warning("the certificate cannot be looked at", extra={"error": str(error)})
            return
        if found != self._used:
            self._take(found)
            _log.info("another certificate is used from now on")

    def _take(self, found: Certificate) -> None:
        self._used, self._is_told, self.authority = found, False, found.authority

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        assert self._used
        self._is_told = True
        pair = [(self._used.key, self._used.chain)]
        return grpc.ssl_server_certificate_configuration(pair)

    def _newer(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked at each handshake, on a thread of gRPC's own."""
        return None if self._is_told else self._configuration()
