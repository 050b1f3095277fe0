"""The keys that tokens are verified by: fetched and rotated beside the calls, never for one."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, Protocol

import aiohttp
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extauthz.core.decide import Snapshot
from extauthz.core.errors import SentinelError
from extauthz.core.policy import OAuth
from extauthz.core.times import format_instant
from extauthz.core.tokens import TokenVerifier
from extauthz.jwks import fetch_keys, open_session

_log = logging.getLogger(__name__)

_LOOK_SECONDS: Final = 1.0  # how soon a policy of another issuer is seen when nobody calls


class Name(StrEnum):
    """Metric names."""

    KEYS = "mcp_gateway_token_keys"  # keys that tokens may be signed with
    FETCHED = "mcp_gateway_token_keys_fetched_timestamp_seconds"  # when they were last fetched
    FETCHES = "mcp_gateway_token_key_fetches_total"  # attempts, by what became of them


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


class Policies(Protocol):
    """Where the running policy is found."""

    @property
    def current(self) -> Snapshot: ...


class KeyRing:
    """Gives the running policy the keys that it needs; in other modes than oauth it is idle.

    Args:
        policies: the policy without keys.
        options: when to fetch.
        clock: seconds since the epoch.
    """

    def __init__(self, policies: Policies, options: KeyOptions, clock: Callable[[], float]) -> None:
        self._policies, self._options, self._clock = policies, options, clock
        self._bare: Snapshot | None = None  # the snapshot that `_keyed` was made of
        self._keyed = policies.current
        self._verifier: TokenVerifier | None = None
        self._wake = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._asked = False  # a token named a key that is not known
        self._tried_at: float | None = None  # by the loop's clock; None: never for this issuer
        self.fetches = dict.fromkeys(Fetch, 0)
        self.fetched_at = 0.0
        self.fault = ""

    @property
    def current(self) -> Snapshot:
        """The policy that decides now, with the keys of its issuer."""
        bare = self._policies.current
        if bare is not self._bare:
            self._adopt(bare)
        return self._keyed

    @property
    def is_needed(self) -> bool:
        """Whether the running policy verifies tokens."""
        return self.current.tokens is not None

    @property
    def is_ready(self) -> bool:
        """Whether tokens can be verified, or none need be."""
        verifier = self.current.tokens
        return verifier is None or (
            verifier.keys is not None and self._clock() < verifier.usable_until
        )

    @property
    def size(self) -> int:
        """How many keys there are."""
        verifier = self.current.tokens
        return verifier.keys.size if verifier and verifier.keys else 0

    async def run(self) -> None:
        """Fetch when it is time, until cancelled."""
        self._loop = asyncio.get_running_loop()
        async with open_session() as session:
            while True:
                verifier = self.current.tokens
                wait = _LOOK_SECONDS
                if verifier is not None:
                    if self._due() <= 0:
                        await self._fetch(session, verifier.rules)
                    wait = max(min(wait, self._due()), 0.0)
                with suppress(TimeoutError):
                    async with asyncio.timeout(wait):
                        await self._wake.wait()
                self._wake.clear()

    def describe(self) -> dict[str, Any] | None:
        """For /config/status; None where no keys are needed."""
        verifier = self.current.tokens
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

    def _adopt(self, bare: Snapshot) -> None:
        """Take over a policy; keys stay where the issuer does."""
        oauth = bare.policy.oauth if bare.policy else None
        before = self._verifier
        if oauth is None:
            self._verifier = None
        elif before is None or _source(before.rules) != _source(oauth):
            self._verifier = TokenVerifier(oauth, None, unknown_key=self._ask)
            self._tried_at, self.fetched_at, self.fault = None, 0.0, ""
            self._wake_up()
        elif before.rules != oauth:
            self._verifier = TokenVerifier(
                oauth,
                before.keys,
                usable_until=before.usable_until,
                unknown_key=self._ask,
            )
        self._keyed = replace(bare, tokens=self._verifier) if oauth else bare
        self._bare = bare

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

    async def _fetch(self, session: aiohttp.ClientSession, oauth: OAuth) -> None:
        """Fetch once; what fails leaves the keys as they are."""
        self._tried_at, self._asked = self._now(), False
        try:
            keys = await fetch_keys(
                session, oauth, allow_loopback_http=self._options.allow_loopback_http
            )
        except SentinelError as error:
            self.fetches[Fetch.FAILURE] += 1
            if str(error) != self.fault:
                _log.warning("token keys not fetched", extra={"why": str(error)})
            self.fault = str(error)
            return
        verifier = self.current.tokens
        if verifier is None or _source(verifier.rules) != _source(oauth):
            return  # another policy runs by now
        self.fault, self.fetched_at = "", self._clock()
        usable_until = self.fetched_at + self._options.max_age_seconds
        if verifier.keys is not None and verifier.keys.digest == keys.digest:
            self.fetches[Fetch.UNCHANGED] += 1
            verifier.usable_until = usable_until
            return
        self.fetches[Fetch.CHANGED] += 1
        # A verifier of its own: nothing that the old keys verified is remembered.
        self._verifier = TokenVerifier(
            verifier.rules, keys, usable_until=usable_until, unknown_key=self._ask
        )
        self._bare = None
        _log.info("token keys fetched", extra={"issuer": oauth.issuer, "keys": keys.size})


def _source(oauth: OAuth) -> tuple[str, str]:
    return oauth.issuer, oauth.jwks_url


class KeyCollector(Collector):
    """Tells of a key ring, where keys are needed.

    Args:
        keys: the ring.
    """

    def __init__(self, keys: KeyRing) -> None:
        self._keys = keys

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        if not self._keys.is_needed:
            return
        yield GaugeMetricFamily(Name.KEYS, "Keys for tokens.", value=float(self._keys.size))
        fetched = self._keys.fetched_at
        yield GaugeMetricFamily(Name.FETCHED, "When they were fetched.", value=fetched)
        fetches = CounterMetricFamily(Name.FETCHES, "Attempts.", labels=("result",))
        for result, count in self._keys.fetches.items():
            fetches.add_metric((result.value,), count)
        yield fetches
