"""Tokens of a real provider: whom they stand for, and what is refused."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import pytest

from backend.auth.api_keys import ADMIN, USER
from backend.auth.oidc import OidcRules, Tokens, rules_of
from backend.auth.principal import Origins, Principal, Scope
from extauthz.core.errors import Invalid, Retryable, Unauthenticated
from extauthz.jwks import KeyOptions, KeyRing
from tests.tools.oidc_provider import Provider, provider
from tests.tools.waiting import soon

AUDIENCE = "sentinel-api"
ADMINS = frozenset({"root", "chief@example.com"})


@pytest.fixture(scope="module")
def running() -> Iterator[Provider]:
    with provider(AUDIENCE) as started:
        yield started


@pytest.fixture
async def ring(running: Provider) -> AsyncIterator[KeyRing[Principal]]:
    rules = OidcRules(running.issuer, AUDIENCE, "", ADMINS)
    options = KeyOptions(cooldown_seconds=0.02, allow_loopback_http=True)
    ring = KeyRing(lambda: rules, options, time.time)
    task = asyncio.create_task(ring.run())
    await soon(lambda: ring.is_ready)
    yield ring
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@pytest.fixture
def tokens(ring: KeyRing[Principal]) -> Tokens:
    return Tokens(ring, time.time)


NOWHERE: frozenset[str] = frozenset()
WHO = [
    # claims, principal without its name
    ({"sub": "root"}, (ADMIN, None, None)),
    ({"sub": "bob", "email": "chief@example.com", "email_verified": True}, (ADMIN, None, None)),
    ({"sub": "bob"}, (USER, NOWHERE, Origins(NOWHERE))),
    ({"sub": "bob", "email": "chief@example.com"}, (USER, NOWHERE, Origins(NOWHERE))),
    (
        {"sub": "bob", "email": "chief@example.com", "email_verified": False},
        (USER, NOWHERE, Origins(NOWHERE)),
    ),
    (
        {"sub": "bob", "email": "chief@example.com", "email_verified": "true"},
        (USER, NOWHERE, Origins(NOWHERE)),
    ),
    (
        {"sub": "bob", "email": ["chief@example.com"], "email_verified": True},
        (USER, NOWHERE, Origins(NOWHERE)),
    ),
    ({"sub": "x" * 251}, (USER, NOWHERE, Origins(NOWHERE))),
    ({"sub": "Root"}, (USER, NOWHERE, Origins(NOWHERE))),
    (
        {"sub": "bob", "sentinel_namespaces": ["team-a"]},
        (USER, frozenset({"team-a"}), Origins(frozenset({"team-a"}))),
    ),
    ({"sub": "bob", "sentinel_namespaces": "*"}, (USER, None, None)),
    ({"sub": "bob", "scope": "ingest operate"}, (USER, NOWHERE, Origins(NOWHERE))),
    (
        {
            "sub": "pod",
            "sentinel_scopes": ["ingest"],
            "sentinel_namespaces": ["team-a"],
            "sentinel_servers": ["team-a/billing"],
        },
        (
            frozenset({Scope.INGEST}),
            frozenset({"team-a"}),
            Origins(frozenset({"team-a"}), frozenset({("team-a", "billing")})),
        ),
    ),
    ({"sub": "bob", "sentinel_scopes": []}, (frozenset(), NOWHERE, Origins(NOWHERE))),
]


@pytest.mark.parametrize(("claims", "expected"), WHO)
def test_whom_a_token_stands_for(
    running: Provider,
    tokens: Tokens,
    claims: dict[str, Any],
    expected: tuple[frozenset[Scope], frozenset[str] | None, Origins | None],
) -> None:
    """Admins by subject or verified address; else by claims; nobody may ingest by role."""
    found = tokens.verify([running.sign(running.claims(**claims))])
    email = claims["email"] if claims.get("email_verified") is True else ""
    named = {"subject": claims["sub"], "email": email if isinstance(email, str) else ""}
    assert found == Principal(f"oidc:{claims['sub']}", *expected, **named)


async def test_a_token_as_issued(running: Provider, tokens: Tokens) -> None:
    """One that the provider itself issues, beside a wrong key."""
    token = await asyncio.to_thread(running.token, "ops", sub="root")
    assert tokens.verify(["not-a-token", token]).scopes == ADMIN


REFUSED = [
    ({"aud": "other"}, "for another audience"),
    ({"iss": "https://other.example"}, "from another issuer"),
    ({"exp": 1}, "has expired"),
    ({"exp": None}, "has no expiry"),
    ({"sub": None}, "names nobody"),
    ({"sub": " "}, "names nobody"),
    ({"sub": "a\0b"}, "names nobody"),
    ({"sub": "x" * 252}, "longer than 251"),
    ({"sub": "é" * 126}, "longer than 251"),
    ({"sentinel_scopes": ["read", "all"]}, "names `all`, which is no scope"),
    ({"sentinel_scopes": {"read": True}}, "is not a list of strings"),
    ({"sentinel_namespaces": ["*", "team-a"]}, "keep|others"),
    ({"sentinel_namespaces": ["Team A"]}, "is no namespace"),
    ({"sentinel_servers": ["team-a/billing"]}, "lies in none"),
]


@pytest.mark.parametrize(("claims", "why"), REFUSED)
def test_refused(running: Provider, tokens: Tokens, claims: dict[str, Any], why: str) -> None:
    """The caller is told why, and to sign in again."""
    token = running.sign(running.claims(**claims))
    with pytest.raises(Unauthenticated, match=why) as refused:
        tokens.verify([token])
    assert token not in str(refused.value)


@pytest.mark.parametrize("credential", ["", "key", "a.b", "a.b.c", "\udcff.b.c", "é.b.c", ".." * 9])
def test_what_is_no_token(tokens: Tokens, credential: str) -> None:
    """Whatever is sent, it is refused and nothing breaks."""
    with pytest.raises(Unauthenticated):
        tokens.verify([credential])


async def test_keys_that_are_rotated(running: Provider, ring: KeyRing[Principal]) -> None:
    """A new key is fetched once a token names it; a withdrawn one no longer counts."""
    tokens, old = Tokens(ring, time.time), running.signing
    running.signing = running.publish()
    token = running.sign(running.claims(sub="root"))
    with pytest.raises(Unauthenticated, match="does not publish"):
        tokens.verify([token])
    await soon(lambda: ring.size == 2)
    assert tokens.verify([token]).scopes == ADMIN
    running.withdraw(old)
    with pytest.raises(Unauthenticated, match="does not publish"):
        tokens.verify([running.sign(running.claims(sub="root"), kid="unknown")])
    await soon(lambda: ring.size == 1)
    with pytest.raises(Unauthenticated, match="does not publish"):
        tokens.verify([running.sign(running.claims(sub="root"), old, kid=old.kid)])


def test_no_keys_yet(running: Provider) -> None:
    """Before keys are fetched it is our fault, not the caller's; what is no token is not."""
    rules = OidcRules(running.issuer, AUDIENCE, "", ADMINS)
    tokens = Tokens(KeyRing(lambda: rules, KeyOptions(), time.time), time.time)
    with pytest.raises(Retryable, match="try again"):
        tokens.verify([running.sign(running.claims())])
    with pytest.raises(Unauthenticated):
        tokens.verify(["key"])


SETTINGS = [
    # issuer, audience, jwks_url, loopback, setting at fault
    ("https://login.example", "", "", False, "OIDC_AUDIENCE"),
    ("", "api", "", False, "OIDC_AUDIENCE"),
    ("", "", "https://login.example/keys", False, "OIDC_JWKS_URL"),
    ("http://login.example", "api", "", False, "OIDC_ISSUER"),
    ("http://login.example", "api", "", True, "OIDC_ISSUER"),
    ("http://127.0.0.1:1", "api", "", False, "OIDC_ISSUER"),
    ("login.example", "api", "", False, "OIDC_ISSUER"),
    ("login.example", "api", "http://10.0.0.1/keys", True, "OIDC_JWKS_URL"),
    ("https://login.example", "api", "https://u:p@login.example/keys", False, "OIDC_JWKS_URL"),
]


@pytest.mark.parametrize(("issuer", "audience", "jwks_url", "loopback", "setting"), SETTINGS)
def test_wrong_settings(
    issuer: str, audience: str, jwks_url: str, loopback: bool, setting: str
) -> None:
    """The start stops with the setting's name and the mend."""
    with pytest.raises(Invalid) as refused:
        rules_of(issuer, audience, jwks_url, (), allow_loopback_http=loopback)
    assert refused.value.field == setting
    assert refused.value.mend


def test_settings() -> None:
    """Without an issuer there are no rules; one whose keys are named may be written any way."""
    assert rules_of("", "", "", ("root",), allow_loopback_http=False) is None
    rules = rules_of(
        "accounts.example", "api", "https://keys.example", ("root",), allow_loopback_http=False
    )
    expected = OidcRules("accounts.example", "api", "https://keys.example", frozenset({"root"}))
    assert rules == expected
