"""Where keys come from, and when: a real HTTP server that serves what a test tells it to."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from joserfc import jwt
from joserfc.jwk import RSAKey
from prometheus_client import CollectorRegistry, generate_latest

from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid, Retryable
from extauthz.core.policy import OAuth
from extauthz.core.request import Identity
from extauthz.core.tokens import KeySet
from extauthz.jwks import Fetch, KeyCollector, KeyOptions, KeyRing
from extauthz.jwks.fetch import MAX_DOCUMENT_BYTES, fetch_keys, open_session
from extauthz.keyed import KeyedPolicies
from tests.tools.waiting import soon

ONE, OTHER = (RSAKey.generate_key(2048, {"kid": kid}) for kid in ("one", "other"))
NOW = 1_800_000_000.0
OPENID = "/.well-known/openid-configuration"
OAUTH = "/.well-known/oauth-authorization-server"

Answer = Callable[[web.Request], web.StreamResponse]


class Site:
    """Serves what stands in `answers`, by path; counts what was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer] = {}
        self.asked: list[str] = []
        self.url = ""

    def put(self, path: str, document: Any, status: int = 200, **headers: str) -> None:
        body = document if isinstance(document, bytes) else json.dumps(document).encode()
        self.answers[path] = lambda _: web.Response(body=body, status=status, headers=headers)

    def put_keys(self, *keys: RSAKey, path: str = "/jwks") -> None:
        self.put(path, {"keys": [key.as_dict(private=False) for key in keys]})

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        assert "authorization" not in request.headers
        answer = self.answers.get(request.path)
        return answer(request) if answer else web.Response(status=404)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site, app = Site(), web.Application()
    app.router.add_route("*", "/{path:.*}", site.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
    yield site
    await runner.cleanup()


def policy_of(issuer: str, audience: str = "aud", jwks_url: str = "") -> Any:
    auth = {"mode": "oauth", "issuer_url": issuer, "audience": audience, "jwks_url": jwks_url}
    return compile_document({"server": {"name": "srv"}, "auth": auth})


async def fetch(issuer: str, jwks_url: str = "", allow: bool = True) -> KeySet:
    oauth: OAuth = policy_of("https://login.example", jwks_url=jwks_url).oauth
    async with open_session() as session:
        return await fetch_keys(session, replace(oauth, issuer=issuer), allow_loopback_http=allow)


class TestFetch:
    async def test_address_in_the_policy(self, site: Site) -> None:
        """A policy that names the address needs no discovery."""
        site.put_keys(ONE, OTHER)
        assert (await fetch("https://login.example", f"{site.url}/jwks")).size == 2
        assert site.asked == ["/jwks"]

    @pytest.mark.parametrize("path", ["", "/tenant", "/tenant/"])
    async def test_openid_discovery(self, site: Site, path: str) -> None:
        """OpenID Connect appends its path to the issuer."""
        issuer = site.url + path
        at = path.removesuffix("/") + OPENID
        site.put(at, {"issuer": issuer, "jwks_uri": f"{site.url}/jwks"})
        site.put_keys(ONE)
        assert (await fetch(issuer)).size == 1
        assert site.asked == [at, "/jwks"]

    async def test_oauth_discovery(self, site: Site) -> None:
        """RFC 8414 puts its path before the issuer's; asked where OpenID has nothing."""
        issuer = f"{site.url}/tenant"
        site.put(f"{OAUTH}/tenant", {"issuer": issuer, "jwks_uri": f"{site.url}/jwks"})
        site.put_keys(ONE)
        assert (await fetch(issuer)).size == 1
        assert site.asked == [f"/tenant{OPENID}", f"{OAUTH}/tenant", "/jwks"]

    @pytest.mark.parametrize(
        ("metadata", "problem"),
        [
            ({"issuer": "https://other.example", "jwks_uri": "https://x/"}, "another issuer"),
            ({"jwks_uri": "https://x/"}, "another issuer"),
            ({"issuer": "ISSUER"}, "names no jwks_uri"),
            ({"issuer": "ISSUER", "jwks_uri": 7}, "names no jwks_uri"),
            ({"issuer": "ISSUER", "jwks_uri": "file:///etc/passwd"}, "is not a URL"),
            ({"issuer": "ISSUER", "jwks_uri": "http://10.0.0.1/"}, "is not https"),
            ({"issuer": "ISSUER", "jwks_uri": "https://u:p@h/"}, "holds credentials"),
            ([], "another issuer"),
        ],
    )
    async def test_metadata_that_cannot_be_used(
        self, site: Site, metadata: Any, problem: str
    ) -> None:
        """Another issuer's metadata, or an address that must not be asked."""
        site.put(OPENID, json.dumps(metadata).replace("ISSUER", site.url).encode())
        with pytest.raises(Invalid, match=problem) as refused:
            await fetch(site.url)
        assert refused.value.mend

    @pytest.mark.parametrize(
        ("body", "problem"),
        [
            (b"", "is not JSON"),
            (b"<html>", "is not JSON"),
            (b'{"keys":[],"keys":[]}', "is not JSON"),
            (b"[]", "is not a list"),
            (b'{"keys":[]}', "holds no key"),
            (b'{"keys":[{"kty":"oct","k":"AAAA"}]}', "holds no key"),
            (b'{"keys":[' + b" " * MAX_DOCUMENT_BYTES + b"]}", "is too large"),
        ],
    )
    async def test_keys_that_cannot_be_used(self, site: Site, body: bytes, problem: str) -> None:
        """Named with the address and the mend."""
        site.put("/jwks", body)
        with pytest.raises(Invalid, match=problem) as refused:
            await fetch("https://login.example", f"{site.url}/jwks")
        assert f"{site.url}/jwks" in str(refused.value)
        assert refused.value.mend

    @pytest.mark.parametrize("status", [301, 302, 307, 404, 500])
    async def test_no_redirects(self, site: Site, status: int) -> None:
        """Only an answer of the address itself counts."""
        site.put_keys(ONE)
        site.put("/moved", b"", status, Location="/jwks")
        with pytest.raises(Retryable, match=f"answered {status}"):
            await fetch("https://login.example", f"{site.url}/moved")
        assert site.asked == ["/moved"]

    async def test_a_body_without_end(self, site: Site) -> None:
        """What never ends is left when it is too large."""

        class Endless(web.StreamResponse):
            async def prepare(self, request: Any) -> Any:
                writer = await super().prepare(request)
                with suppress(ConnectionError):
                    while True:
                        await self.write(b" " * 65536)
                return writer

        site.answers["/jwks"] = lambda _: Endless()
        with pytest.raises(Invalid, match="is too large"):
            await fetch("https://login.example", f"{site.url}/jwks")

    async def test_a_provider_that_is_silent(
        self, site: Site, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Time is bounded."""
        monkeypatch.setattr("extauthz.jwks.fetch.TIMEOUT_SECONDS", 0.05)
        async with silent() as url:
            with pytest.raises(Retryable, match="did not answer within"):
                await fetch("https://login.example", url)

    async def test_http_must_be_allowed(self, site: Site) -> None:
        """Loopback too, unless a setting says so."""
        with pytest.raises(Invalid, match="set JWKS_ALLOW_LOOPBACK_HTTP=true for tests"):
            await fetch("https://login.example", f"{site.url}/jwks", allow=False)
        assert site.asked == []

    async def test_an_unknown_authority(self) -> None:
        """https counts only where the certificate does."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0, ssl=context)
        port = server.sockets[0].getsockname()[1]
        with pytest.raises(Retryable, match="cannot be reached"):
            await fetch("https://login.example", f"https://127.0.0.1:{port}/")
        server.close()


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """A server that takes connections and says nothing."""
    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    server.close()


class Policies:
    """Holds the snapshot that a policy source would swap."""

    def __init__(self, *policy: Any) -> None:
        self.current = Snapshot.unavailable(PolicyFacts("srv"), "none yet")
        for each in policy:
            self.run(each)

    def run(self, policy: Any) -> None:
        self.current = Snapshot.of(policy, NOW)

    def rules(self) -> OAuth | None:
        return self.current.policy.oauth if self.current.policy else None


@asynccontextmanager
async def fetching(ring: KeyRing[Identity]) -> AsyncIterator[None]:
    task = asyncio.create_task(ring.run())
    try:
        yield
    finally:
        assert not task.done()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def token(key: RSAKey, issuer: str, audience: str = "aud") -> str:
    claims = {"iss": issuer, "aud": audience, "exp": NOW + 60, "sub": "alice"}
    return jwt.encode({"alg": "RS256", "kid": key.kid}, claims, key)


def is_valid(ring: KeyRing[Identity], text: str) -> bool:
    tokens = ring.look()
    assert tokens
    return isinstance(tokens.verify(text, NOW), Identity)


def a_ring(policies: Policies, **options: Any) -> KeyRing[Identity]:
    short = {"refresh_seconds": 3600.0, "cooldown_seconds": 0.02, "allow_loopback_http": True}
    return KeyRing(policies.rules, KeyOptions(**{**short, **options}), lambda: NOW)


class TestRing:
    async def test_idle_without_oauth(self, site: Site) -> None:
        """In other modes nothing is asked, and nothing is missing."""
        policies = Policies(compile_document({"server": {"name": "srv"}}))
        ring = a_ring(policies)
        async with fetching(ring):
            await asyncio.sleep(0.05)
            assert KeyedPolicies(policies, ring).current is policies.current
        assert (ring.is_needed, ring.is_ready, ring.describe()) == (False, True, None)
        registry = CollectorRegistry()
        registry.register(KeyCollector(ring, "mcp_gateway"))
        assert generate_latest(registry) == b""

    async def test_no_policy_yet(self, site: Site) -> None:
        """Without a policy there is nothing to fetch for; one that comes is served."""
        site.put_keys(ONE)
        policies = Policies()
        ring = a_ring(policies)
        async with fetching(ring):
            assert KeyedPolicies(policies, ring).current is policies.current
            policies.run(policy_of("https://login.example", jwks_url=f"{site.url}/jwks"))
            assert not ring.is_ready
            await soon(lambda: ring.is_ready)
        assert ring.size == 1

    async def test_rotation(self, site: Site) -> None:
        """New keys take the place of old ones; what the old ones verified is forgotten."""
        site.put_keys(ONE)
        policies = Policies(policy_of("https://i", jwks_url=f"{site.url}/jwks"))
        ring = a_ring(policies, refresh_seconds=0.02)
        async with fetching(ring):
            await soon(lambda: ring.is_ready)
            assert is_valid(ring, token(ONE, "https://i"))
            site.put_keys(ONE, OTHER)
            await soon(lambda: ring.size == 2)
            assert is_valid(ring, token(ONE, "https://i"))
            assert is_valid(ring, token(OTHER, "https://i"))
            site.put_keys(OTHER)
            await soon(lambda: ring.size == 1)
            assert not is_valid(ring, token(ONE, "https://i"))
            assert is_valid(ring, token(OTHER, "https://i"))
        assert ring.fetches[Fetch.CHANGED] == 3

    async def test_what_was_verified_stays_while_keys_do(self, site: Site) -> None:
        """The same keys, or a policy that only was confirmed, forget nothing."""
        site.put_keys(ONE)
        policies = Policies(policy_of("https://i", jwks_url=f"{site.url}/jwks"))
        ring = a_ring(policies, refresh_seconds=0.02)
        async with fetching(ring):
            await soon(lambda: ring.is_ready)
            keyed = KeyedPolicies(policies, ring)
            tokens = keyed.current.tokens
            assert tokens
            await soon(lambda: ring.fetches[Fetch.UNCHANGED] > 2)
            policies.current = replace(policies.current, confirmed_at=NOW + 1)
            assert keyed.current.tokens is tokens
            assert keyed.current.confirmed_at == NOW + 1
            assert keyed.current is keyed.current

    async def test_an_unknown_key(self, site: Site) -> None:
        """A token of an unknown key has the provider asked, once in the cooldown."""
        site.put_keys(ONE)
        policies = Policies(policy_of("https://i", jwks_url=f"{site.url}/jwks"))
        ring = a_ring(policies)
        async with fetching(ring):
            await soon(lambda: ring.is_ready)
            site.put_keys(ONE, OTHER)
            assert not is_valid(ring, token(OTHER, "https://i"))
            await soon(lambda: ring.size == 2)
            assert is_valid(ring, token(OTHER, "https://i"))
            assert len(site.asked) == 2
        patient = a_ring(policies, cooldown_seconds=3600.0)
        async with fetching(patient):
            await soon(lambda: patient.is_ready)
            stranger = RSAKey.generate_key(2048, {"kid": "stranger"})
            for _ in range(50):
                assert not is_valid(patient, token(stranger, "https://i"))
                await asyncio.sleep(0)
            assert len(site.asked) == 3

    async def test_a_provider_that_is_away(self, site: Site) -> None:
        """The last known keys go on until they are too old; the fault is told."""
        times = [NOW]
        policies = Policies(policy_of("https://i", jwks_url=f"{site.url}/jwks"))
        options = KeyOptions(0.02, 0.02, 100.0, allow_loopback_http=True)
        ring = KeyRing(policies.rules, options, lambda: times[0])
        async with fetching(ring):
            await soon(lambda: ring.fetches[Fetch.FAILURE] > 1)
            assert not ring.is_ready
            site.put_keys(ONE)
            await soon(lambda: ring.is_ready)
            assert ring.fault == ""
            site.answers.clear()
            await soon(lambda: ring.fault)
            assert is_valid(ring, token(ONE, "https://i"))
            told = ring.describe()
            assert told
            assert (told["ready"], told["keys"], "answered 404" in told["fault"]) == (True, 1, True)
            times[0] = NOW + 100
            assert not ring.is_ready

    async def test_another_issuer(self, site: Site) -> None:
        """A policy of another issuer starts with no keys; another audience keeps them."""
        site.put_keys(ONE)
        site.put_keys(OTHER, path="/other")
        policies = Policies(policy_of("https://i", jwks_url=f"{site.url}/jwks"))
        ring = a_ring(policies)
        async with fetching(ring):
            await soon(lambda: ring.is_ready)
            policies.run(policy_of("https://i", "new", f"{site.url}/jwks"))
            assert ring.is_ready
            assert not is_valid(ring, token(ONE, "https://i"))
            assert is_valid(ring, token(ONE, "https://i", "new"))
            policies.run(policy_of("https://o", "new", f"{site.url}/other"))
            assert not ring.is_ready
            await soon(lambda: ring.is_ready)
            assert is_valid(ring, token(OTHER, "https://o", "new"))
        assert site.asked == ["/jwks", "/other"]

    async def test_metrics(self, site: Site) -> None:
        """Keys, when they were fetched, and how often."""
        site.put_keys(ONE)
        ring = a_ring(Policies(policy_of("https://i", jwks_url=f"{site.url}/jwks")))
        registry = CollectorRegistry()
        registry.register(KeyCollector(ring, "mcp_gateway"))
        async with fetching(ring):
            await soon(lambda: ring.is_ready)
        text = generate_latest(registry).decode()
        assert "mcp_gateway_token_keys 1.0" in text
        assert "mcp_gateway_token_keys_fetched_timestamp_seconds 1.8e+09" in text
        assert 'mcp_gateway_token_key_fetches_total{result="changed"} 1.0' in text
