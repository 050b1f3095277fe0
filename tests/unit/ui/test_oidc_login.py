"""Signing in at a provider: a browser goes there and comes back, and nobody else does."""

import html
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
import requests

from tests.tools.oidc_provider import SECRET
from tests.tools.oidc_sign_in import CLIENT, SignInProvider, sign_in_provider
from tests.tools.ports import free_ports
from tests.tools.stack_part import Part
from tests.tools.waiting import SECONDS
from tests.unit.ui.conftest import Browser, new_backend, new_dashboard

ALICE = {"sub": "alice", "email": "alice@example.org", "email_verified": True}


@pytest.fixture(scope="module")
def provider() -> Iterator[SignInProvider]:
    with sign_in_provider() as running:
        yield running


@pytest.fixture(scope="module")
def told(provider: SignInProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Part]:
    """A dashboard and an api that know the provider."""
    oidc = {"OIDC_ISSUER": provider.issuer, "ADMIN_USERS": "alice"}
    oidc |= {"OIDC_AUDIENCE": CLIENT, "JWKS_ALLOW_LOOPBACK_HTTP": "true"}
    backend = new_backend(tmp_path_factory.mktemp("oidc-api"), **oidc)
    backend.start()
    folder: Path = tmp_path_factory.mktemp("oidc-ui")
    part = new_dashboard(
        backend.address,
        folder,
        OIDC_ISSUER=provider.issuer,
        OIDC_CLIENT_ID=CLIENT,
        OIDC_CLIENT_SECRET=SECRET,
        UI_PUBLIC_URL="http://127.0.0.1:1",
    )
    part.environ = {**part.environ, "UI_PUBLIC_URL": part.address}
    part.start()
    provider.register(f"{part.address}/auth/callback")
    yield part
    part.kill()
    backend.kill()


@pytest.fixture
def person(told: Part, provider: SignInProvider) -> Browser:
    provider.person, provider.changed = ALICE, {}
    return Browser(told.address)


def _goes(browser: Browser, path: str = "/auth/oidc") -> str:
    """To the provider, which sends the browser back: where to."""
    away = browser.get(path).headers["Location"]
    sent = requests.get(away, timeout=SECONDS, allow_redirects=False)
    assert sent.status_code == 302, sent.text
    return str(sent.headers["Location"]).removeprefix(browser.url)


def _is_signed_in(browser: Browser) -> bool:
    return bool(browser.get("/auth/status").json()["authenticated"])


def test_there_and_back(person: Browser) -> None:
    """With PKCE, state and nonce, to the page that was asked for."""
    assert "Sign in at your provider" in person.get("/login").text
    away = person.get("/auth/oidc?next=/governance").headers["Location"]
    sent = parse_qs(urlsplit(away).query)
    assert (sent["code_challenge_method"], sent["scope"]) == (["S256"], ["openid email profile"])
    assert len({sent[name][0] for name in ("state", "nonce", "code_challenge")}) == 3
    back = _goes(person, "/auth/oidc?next=/governance")
    answer = person.get(back)
    assert answer.status_code == 200, answer.text
    assert 'content="0; url=/governance"' in answer.text
    status = person.get("/auth/status").json()
    assert status["principal"]["subject"] == "alice"
    assert "alice@example.org" in person.get("/").text


def test_what_is_sent_back_counts_for_who_left(person: Browser) -> None:
    """Neither in another browser, nor with another state, nor twice."""
    back = _goes(person)
    victim = Browser(person.url)
    assert victim.get(back).status_code == 401
    _goes(victim)  # the victim has begun a sign-in of its own
    assert victim.get(back).status_code == 401
    assert not _is_signed_in(victim)
    assert person.get(back).status_code == 200
    assert person.get(back).status_code == 401  # the cookie is gone, and so is the code


@pytest.mark.parametrize(
    "changed",
    [
        {"nonce": "another"},
        {"aud": "another-client"},
        {"iss": "https://evil.example"},
        {"exp": 1},
    ],
)
def test_a_token_for_somebody_else(
    person: Browser, provider: SignInProvider, changed: dict[str, object]
) -> None:
    """Signed by the provider, but not for this sign-in."""
    provider.changed = changed
    answer = person.get(_goes(person))
    assert answer.status_code == 401
    assert "does not hold; sign in again" in html.unescape(answer.text)
    assert not _is_signed_in(person)


def test_a_token_that_another_key_signed(person: Browser, provider: SignInProvider) -> None:
    published = list(provider.published)
    provider.signing = provider.publish()
    provider.published = published
    try:
        assert "does not hold; sign in again" in html.unescape(person.get(_goes(person)).text)
        assert not _is_signed_in(person)
    finally:
        provider.signing = published[-1]  # type: ignore[assignment]


def test_a_token_too_large_for_a_cookie(person: Browser, provider: SignInProvider) -> None:
    """It is said, not dropped by the browser."""
    provider.person = {"sub": "alice", "groups": [f"group-{number:05}" for number in range(800)]}
    answer = person.get(_goes(person))
    assert answer.status_code == 401
    assert "too large" in answer.text


def test_a_refusal_of_the_provider(person: Browser) -> None:
    person.get("/auth/oidc")
    answer = person.get("/auth/callback?error=access_denied&state=x")
    assert answer.status_code == 401
    assert not _is_signed_in(person)


def test_a_provider_that_is_away(tmp_path: Path, told: Part) -> None:
    """The dashboard serves, and keys still sign in."""
    [nobody] = free_ports(1)
    part = new_dashboard(
        told.environ["API_UPSTREAM"],
        tmp_path,
        OIDC_ISSUER=f"http://127.0.0.1:{nobody}",
        OIDC_CLIENT_ID=CLIENT,
        UI_PUBLIC_URL="http://127.0.0.1:1",
    )
    part.start()
    try:
        answer = Browser(part.address).get("/auth/oidc")
        assert answer.status_code == 502
        assert "the provider is away" in answer.text
    finally:
        part.kill()
