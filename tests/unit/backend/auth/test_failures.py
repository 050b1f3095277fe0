"""Failures to authenticate: counted, and limited by address."""

from collections.abc import Sequence

import pytest
from prometheus_client import generate_latest

from backend.auth.api_keys import ApiKeys, from_lists
from backend.auth.failures import (
    FAILURES,
    MAX_ADDRESSES,
    WINDOW_SECONDS,
    CountedFailures,
    FirstOf,
    Throttled,
)
from backend.auth.principal import Principal
from backend.metrics import AuthMetrics, new_registry
from extauthz.core.errors import Retryable, Unauthenticated


class Away:
    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        raise Retryable("the provider is away; try again later")


class Gate:
    """A verifier with one key, `good`, and a clock that a test sets."""

    def __init__(self) -> None:
        self.now, self.registry = 0.0, new_registry()
        keys = ApiKeys(from_lists(["good"], [], []))
        self.verifier = CountedFailures(keys, AuthMetrics(self.registry), lambda: self.now)

    def is_throttled(self, source: str, credential: str = "bad") -> bool:
        with pytest.raises(Unauthenticated) as refused:
            self.verifier.verify([credential] if credential else [], source)
        return isinstance(refused.value, Throttled)

    def exhaust(self, source: str) -> None:
        assert not any(self.is_throttled(source) for _ in range(FAILURES))


def test_only_failures_are_limited() -> None:
    """Beyond the limit failures are throttled; a valid key from the same address gets through."""
    gate = Gate()
    gate.exhaust("192.0.2.1")
    assert gate.is_throttled("192.0.2.1")
    assert gate.is_throttled("192.0.2.1", "")
    assert gate.verifier.verify(["good"], "192.0.2.1").scopes
    assert not gate.is_throttled("192.0.2.2")
    text = generate_latest(gate.registry).decode()
    assert f'auth_failures_total{{reason="invalid"}} {FAILURES + 2}.0' in text
    assert 'auth_failures_total{reason="missing"} 1.0' in text
    assert "auth_throttled_total 2.0" in text


def test_the_window_ends() -> None:
    """It begins with the first failure, so that who goes on failing is heard again, too."""
    gate = Gate()
    gate.exhaust("192.0.2.1")
    gate.now = WINDOW_SECONDS - 1
    assert gate.is_throttled("192.0.2.1")
    gate.now = WINDOW_SECONDS + 1
    assert not gate.is_throttled("192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:2", True),  # one host has a whole /64
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("fe80::1%eth0", "fe80::2%eth1", True),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("localhost", "localhost", True),
    ],
)
def test_addresses(one: str, other: str, same: bool) -> None:
    """What counts as one source."""
    gate = Gate()
    gate.exhaust(one)
    assert gate.is_throttled(other) == same


def test_addresses_are_bounded() -> None:
    """However many addresses fail, few are remembered; where none is known, none is limited."""
    gate = Gate()
    for number in range(MAX_ADDRESSES + 100):
        gate.is_throttled(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(gate.verifier._seen) == MAX_ADDRESSES
    assert not any(gate.is_throttled("") for _ in range(FAILURES + 10))


def test_first_of() -> None:
    """One that accepts is enough; one that is away says so only where no other accepts."""
    keys = ApiKeys(from_lists(["good"], [], []))
    for order in ([keys, Away()], [Away(), keys]):
        assert FirstOf(order).verify(["good"]).scopes
        with pytest.raises(Retryable, match="provider is away"):
            FirstOf(order).verify(["bad"])
    with pytest.raises(Unauthenticated, match="configure"):
        FirstOf([]).verify(["good"])


def test_a_provider_that_is_away_is_no_failure() -> None:
    """It is counted, and never limits anybody."""
    registry = new_registry()
    verifier = CountedFailures(Away(), AuthMetrics(registry), lambda: 0.0)
    for _ in range(FAILURES + 1):
        with pytest.raises(Retryable):
            verifier.verify(["a.b.c"], "192.0.2.1")
    text = generate_latest(registry).decode()
    assert f'auth_failures_total{{reason="unavailable"}} {FAILURES + 1}.0' in text
