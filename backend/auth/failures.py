"""What becomes of requests without a valid credential: counted, and slowed down by address."""

import ipaddress
import logging
import threading
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final

from cachetools import TTLCache

from backend.auth.principal import Principal, Verifier
from backend.metrics import AuthMetrics
from extauthz.core.errors import Retryable, Unauthenticated

FAILURES: Final = 60  # of one address within the window are answered 401; more of them, 429
WINDOW_SECONDS: Final = 60.0
MAX_ADDRESSES: Final = 10_000  # remembered; then the oldest is forgotten

_log = logging.getLogger(__name__)


class Throttled(Unauthenticated):
    """No valid credential, once too often from this address."""


class FirstOf:
    """Verifier that takes what one of several takes."""

    def __init__(self, verifiers: Sequence[Verifier]) -> None:
        self._verifiers = tuple(verifiers)

    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        refused: Exception = Unauthenticated("nobody is let in; configure a credential")
        away: Retryable | None = None
        for verifier in self._verifiers:
            try:
                return verifier.verify(credentials, source)
            except Unauthenticated as error:
                refused = error
            except Retryable as error:
                away = error
        raise away or refused


class CountedFailures:
    """Verifier that counts what another refuses.

    Only failures are limited: a valid credential is let in from any address, so that nobody
    is locked out by a neighbour behind the same address.
    """

    def __init__(
        self, verifier: Verifier, metrics: AuthMetrics, monotonic: Callable[[], float]
    ) -> None:
        self._verifier, self._metrics = verifier, metrics
        self._seen: TTLCache[str, list[int]] = TTLCache(MAX_ADDRESSES, WINDOW_SECONDS, monotonic)
        self._lock = threading.Lock()

    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        try:
            return self._verifier.verify(credentials, source)
        except Unauthenticated as error:
            self._metrics.failures.labels("invalid" if credentials else "missing").inc()
            if source and self._is_over(_network(source)):
                self._metrics.throttled.inc()
                raise Throttled(f"too often: {error}") from error
            raise
        except Retryable:
            self._metrics.failures.labels("unavailable").inc()
            raise

    def _is_over(self, network: str) -> bool:
        with self._lock:
            # Changed in place: the window begins with the first failure, not the last.
            count = self._seen.setdefault(network, [0])
            count[0] += 1
            if count[0] == FAILURES + 1:
                _log.warning("failures to authenticate are limited", extra={"source": network})
            return count[0] > FAILURES


@lru_cache(maxsize=1024)
def _network(source: str) -> str:
    """The address, or of IPv6 the /64: one host has all of it."""
    try:
        address = ipaddress.ip_address(source.partition("%")[0])
    except ValueError:
        return source[:64]
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
