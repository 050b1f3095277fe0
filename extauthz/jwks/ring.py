"""The keys that tokens are verified by: fetched and rotated beside the calls, never for one."""

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, Generic, Protocol, TypeVar

import aiohttp
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extauthz.core.errors import SentinelError
from extauthz.core.times import format_instant
from extauthz.core.tokens import KeySet, TokenRules, TokenVerifier
from extauthz.jwks.fetch import Provider, fetch_keys, open_session

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0  # how soon rules of another issuer are seen when nobody calls

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Name(StrEnum):
    """Metric names, after the prefix of the process."""

    KEYS = "_token_keys"  # keys that tokens may be signed with
    FETCHED = "_token_keys_fetched_timestamp_seconds"  # when they were last fetched
    FETCHES = "_token_key_fetches_total"  # attempts, by what became of them


class Fetch(StrEnum):
    """What became of an attempt to fetch keys."""

    CHANGED = "changed"  # other keys than before
    UNCHANGED = "unchanged"
    FAILURE = "failure"  # the last known keys go on until they are too old


@dataclass(frozen=True, slots=True)
class KeyOptions:
    """When keys are fetched.

    Args:
        refresh_seconds: time between two fetches.
        cooldown_seconds: least time between them: after a failure, and where a token names a
            key that is not known.
        max_age_seconds: how long keys count while the provider is away.
        allow_loopback_http: take keys over http from this machine.
    """

    refresh_seconds: float = 300.0
    cooldown_seconds: float = 10.0
    max_age_seconds: float = 86_400.0
    allow_loopback_http: bool = False


class Rules(Provider, TokenRules[T_co], Protocol[T_co]):
    """Whose tokens count, where their keys are, and what they say."""


class KeyRing(Generic[T]):
    """Holds the verifier of one provider's tokens, with its keys.

    Args:
        rules: what holds now; None where no tokens are verified.
        options: when to fetch.
        clock: seconds since the epoch.
        fetch: gets the keys; unset: over http, from where the rules say. Raises: SentinelError.

    Attributes:
        verifier: as of the last look; None where no tokens are verified. Another one takes its
            place where rules or keys change, and remembers nothing that the old keys verified.
    """

    def __init__(
        self,
        rules: Callable[[], Rules[T] | None],
        options: KeyOptions,
        clock: Callable[[], float],
        fetch: Callable[[], Awaitable[KeySet]] | None = None,
    ) -> None:
        self._rules, self._options, self._clock = rules, options, clock
        self._fetch_own = fetch
        self.verifier: TokenVerifier[T] | None = None
        self._held: Rules[T] | None = None  # the rules of `verifier`
        self._changing = threading.Lock()  # Check looks from a thread of its own
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = False  # a token named a key that is not known
        self._tried_at: float | None = None  # by the loop's clock; None: never for this issuer
        self.fetches = dict.fromkeys(Fetch, 0)
        self.fetched_at = 0.0
        self.fault = ""

    def look(self) -> TokenVerifier[T] | None:
        """The verifier by the rules as they are now; keys stay where the issuer does.

        For any thread.
        """
        with self._changing:
            return self._look()

    def _look(self) -> TokenVerifier[T] | None:
        rules = self._rules()
        held, before = self._held, self.verifier
        if rules is held:
            return before
        self._held = rules
        if rules is None:
            self.verifier = None
        elif held is None or before is None or _source(held) != _source(rules):
            self._tried_at, self.fetched_at, self.fault = None, 0.0, ""
            self.verifier = TokenVerifier(rules, None, unknown_key=self._ask)
            self._wake_up()
        elif held != rules:
            self.verifier = TokenVerifier(
                rules, before.keys, usable_until=before.usable_until, unknown_key=self._ask
            )
        return self.verifier

    @property
    def is_needed(self) -> bool:
        """Whether tokens are verified at all."""
        return self.look() is not None

    @property
    def is_ready(self) -> bool:
        """Whether tokens can be verified, or none need be."""
        verifier = self.look()
        return verifier is None or (
            verifier.keys is not None and self._clock() < verifier.usable_until
        )

    @property
    def size(self) -> int:
        """How many keys there are."""
        verifier = self.look()
        return verifier.keys.size if verifier and verifier.keys else 0

    async def run(self) -> None:
        """Fetch when it is time, until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with open_session() as session:
            while True:
                self.look()
                wait = _LOOK_SECONDS
                if self._held is not None:
                    if self._due() <= 0:
                        await self._fetch(session, self._held)
                    wait = max(min(wait, self._due()), 0.0)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                self._wake.clear()

    def describe(self) -> dict[str, Any] | None:
        """For people; None where no keys are needed."""
        verifier = self.look()
        if verifier is None:
            return None
        return {
            "issuer": verifier.rules.issuer,
            "ready": self.is_ready,
            "keys": self.size,
            "fetched_at": format_instant(self.fetched_at) if self.fetched_at else "",
            "fetches": {result.value: count for result, count in self.fetches.items()},
            "fault": self.fault,
        }

    def _ask(self) -> None:
        """A token names a key that is not known; perhaps the provider has a new one."""
        if not self._asked:
            self._asked = True
            self._wake_up()

    def _wake_up(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._wake.set)

    def _due(self) -> float:
        """Seconds until the next fetch."""
        if self._tried_at is None:
            return 0.0
        options = self._options
        after = options.refresh_seconds
        if self._asked or self.fault:
            after = min(after, options.cooldown_seconds)
        return self._tried_at + after - self._now()

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _fetch(self, session: aiohttp.ClientSession, rules: Rules[T]) -> None:
        """Fetch once; what fails leaves the keys as they are."""
        self._tried_at, self._asked = self._now(), False
        try:
            if self._fetch_own:
                keys = await self._fetch_own()
            else:
                keys = await fetch_keys(
                    session, rules, allow_loopback_http=self._options.allow_loopback_http
                )
        except SentinelError as error:
            self.fetches[Fetch.FAILURE] += 1
            if str(error) != self.fault:
                _log.warning("token keys not fetched", extra={"error": str(error)})
            self.fault = str(error)
            return
        with self._changing:
            self._take(keys, rules)

    def _take(self, keys: KeySet, rules: Rules[T]) -> None:
        verifier, held = self._look(), self._held
        if verifier is None or held is None or _source(held) != _source(rules):
            return  # other rules hold by now
        self.fault, self.fetched_at = "", self._clock()
        usable_until = self.fetched_at + self._options.max_age_seconds
        if verifier.keys is not None and verifier.keys.digest == keys.digest:
            self.fetches[Fetch.UNCHANGED] += 1
            verifier.usable_until = usable_until
            return
        self.fetches[Fetch.CHANGED] += 1
        # A verifier of its own: nothing that the old keys verified is remembered.
        self.verifier = TokenVerifier(
            verifier.rules, keys, usable_until=usable_until, unknown_key=self._ask
        )
        _log.info("token keys fetched", extra={"issuer": rules.issuer, "keys": keys.size})


def _source(provider: Provider) -> tuple[str, str]:
    return provider.issuer, provider.jwks_url


class KeyCollector(Collector):
    """Tells of a key ring, where keys are needed.

    Args:
        keys: the ring.
        prefix: of the metrics' names.
    """

    def __init__(self, keys: KeyRing[Any], prefix: str) -> None:
        self._keys, self._prefix = keys, prefix

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        if not self._keys.is_needed:
            return
        keys, prefix = self._keys, self._prefix
        yield GaugeMetricFamily(prefix + Name.KEYS, "Keys for tokens.", value=float(keys.size))
        yield GaugeMetricFamily(
            prefix + Name.FETCHED, "When they were fetched.", value=keys.fetched_at
        )
        fetches = CounterMetricFamily(prefix + Name.FETCHES, "Attempts.", labels=("result",))
        for result, count in keys.fetches.items():
            fetches.add_metric((result.value,), count)
        yield fetches
