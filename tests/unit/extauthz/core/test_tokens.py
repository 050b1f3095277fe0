"""Bearer tokens: what is believed, and all that is not."""

import json
import warnings
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey, RSAKey
from msgspec import structs

from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision
from extauthz.core.errors import Invalid
from extauthz.core.policy import OAuth
from extauthz.core.reasons import Reason
from extauthz.core.request import Identity, Request
from extauthz.core.tokens import MAX_VERIFIED, KeySet, TokenRefusal, TokenVerifier
from extauthz.core.urls import check_key_url, is_metadata, metadata_url
from tests.tools.forgeries import compact, encode, forged_tokens, rs256

NOW = 1_800_000_000
with warnings.catch_warnings(action="ignore"):
    WEAK = RSAKey.generate_key(1024)
ISSUER, AUDIENCE = "https://login.example", "https://mcp.example/mcp"
RULES = OAuth(
    issuer=ISSUER,
    audience=AUDIENCE,
    jwks_url="",
    header="authorization",
    human_claims=("sub",),
    agent_claims=("azp", "client_id"),
    team_claims=("team_id", "tenant_id", "tid"),
    session_claims=("sid",),
)
RSA = RSAKey.generate_key(2048, {"kid": "rsa", "use": "sig"})
CURVE = ECKey.generate_key("P-256", {"kid": "curve"})
KEYS = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), RSA),
    "ES256": CURVE,
    "ES384": ECKey.generate_key("P-384", {"kid": "384"}),
    "ES512": ECKey.generate_key("P-521", {"kid": "521"}),
    "EdDSA": OKPKey.generate_key("Ed25519", {"kid": "ed"}),
}
CLAIMS = {
    "iss": ISSUER,
    "aud": AUDIENCE,
    "iat": NOW,
    "exp": NOW + 3600,
    "sub": "alice",
    "client_id": "ops",
}
WHO = Identity(human_id="alice", agent_id="ops")


def jwk(key: Any, **more: Any) -> dict[str, Any]:
    return key.as_dict(private=False) | more


def key_set(*keys: dict[str, Any]) -> KeySet:
    return KeySet({"keys": list(keys)})


def sign(claims: dict[str, Any], algorithm: str = "RS256", **header: Any) -> str:
    key = KEYS[algorithm]
    every = {"alg": algorithm, "kid": key.kid, **header}
    kept = {name: value for name, value in every.items() if value is not None}
    return jwt.encode(kept, claims, key, algorithms=[algorithm])


ALL = key_set(*(jwk(key) for key in (RSA, *list(KEYS.values())[6:])))


def verifier(keys: KeySet | None = ALL, **more: Any) -> TokenVerifier:
    return TokenVerifier(RULES, keys, **more)


def reason(found: Identity | TokenRefusal) -> Reason | None:
    return found.reason if isinstance(found, TokenRefusal) else None


class TestBelieved:
    @pytest.mark.filterwarnings("ignore:EdDSA is deprecated")
    @pytest.mark.parametrize("algorithm", KEYS)
    def test_algorithms(self, algorithm: str) -> None:
        """Every algorithm of the allow-list, signed by another library."""
        assert verifier().verify(sign(CLAIMS, algorithm), NOW) == WHO

    @pytest.mark.parametrize(
        "changed",
        [
            {"aud": ["https://other.example", AUDIENCE]},
            {"exp": NOW + 0.5},
            {"exp": NOW - 59},
            {"nbf": NOW + 60, "iat": NOW + 60},
            {"nbf": NOW - 1},
            {"iat": None},
        ],
    )
    def test_claims(self, changed: dict[str, Any]) -> None:
        """Audience in a list; times within the skew; what is optional left out."""
        claims = {k: v for k, v in {**CLAIMS, **changed}.items() if v is not None}
        assert verifier().verify(sign(claims), NOW) == WHO

    @pytest.mark.parametrize("kind", [None, "JWT", "at+jwt", "application/at+jwt", "AT+JWT"])
    def test_types(self, kind: str | None) -> None:
        """Access tokens, whether they say so or not."""
        assert verifier().verify(sign(CLAIMS, typ=kind), NOW) == WHO

    def test_no_kid_and_one_key(self) -> None:
        """A token without kid is verified by the only key that fits."""
        token = jwt.encode({"alg": "RS256"}, CLAIMS, RSA)
        assert verifier().verify(token, NOW) == WHO

    @pytest.mark.parametrize(
        ("claims", "who"),
        [
            ({"azp": "a", "client_id": "b"}, Identity("alice", "a")),
            ({"tid": "3", "tenant_id": "2"}, Identity("alice", "ops", "2")),
            ({"team_id": "", "tid": "3"}, Identity("alice", "ops", "3")),
            ({"sid": "s-1"}, Identity("alice", "ops", "", "s-1")),
            ({"sub": "zoë"}, Identity("zoë", "ops")),
            ({"sub": "", "client_id": None}, Identity()),
        ],
    )
    def test_default_claims(self, claims: dict[str, Any], who: Identity) -> None:
        """The first claim that says something counts."""
        assert verifier().verify(sign({**CLAIMS, **claims}), NOW) == who

    def test_own_claims(self) -> None:
        """Claims that a policy names stand alone."""
        rules = replace(RULES, agent_claims=("https://x/agent",))
        token = sign({**CLAIMS, "https://x/agent": "mine"})
        found = TokenVerifier(rules, ALL).verify(token, NOW)
        assert found == Identity("alice", "mine")
        assert TokenVerifier(rules, ALL).verify(sign(CLAIMS), NOW) == Identity("alice")


class TestRefused:
    @pytest.mark.parametrize("name", FORGED := forged_tokens(CLAIMS, RSA, CURVE))
    def test_forgeries(self, name: str) -> None:
        """No forgery names anybody, nor is it quoted in the answer."""
        found = verifier().verify(self.FORGED[name], NOW)
        assert isinstance(found, TokenRefusal)
        assert found.reason is Reason.INVALID_TOKEN
        assert not [
            part for part in self.FORGED[name].split(".") if len(part) > 8 and part in found.detail
        ]

    def test_header_with_a_member_twice(self) -> None:
        """Of two kids none counts."""
        head = encode(b'{"alg":"RS256","kid":"curve","kid":"rsa"}')
        signed = f"{head}.{encode(json.dumps(CLAIMS).encode())}"
        token = f"{signed}.{encode(rs256(RSA.private_key)(signed.encode()))}"
        assert reason(verifier().verify(token, NOW)) is Reason.INVALID_TOKEN

    def test_two_keys_and_no_kid(self) -> None:
        """A token without kid is not tried on one key after the other."""
        other = RSAKey.generate_key(2048, {"kid": "other"})
        token = jwt.encode({"alg": "RS256"}, CLAIMS, RSA)
        assert reason(verifier(key_set(jwk(RSA), jwk(other))).verify(token, NOW))

    @settings(deadline=None)
    @given(st.text(), st.integers(0, 2**31))
    def test_any_text(self, text: str, now: int) -> None:
        """Whatever is sent is refused; nothing is raised."""
        assert reason(verifier().verify(text, now)) is Reason.INVALID_TOKEN

    @settings(deadline=None)
    @given(st.binary(max_size=200), st.binary(max_size=200))
    def test_any_header_and_claims(self, header: bytes, payload: bytes) -> None:
        """Also within the form of a JWT, signed as it may be."""
        token = compact({}, payload, rs256(RSA.private_key)).partition(".")[2]
        found = verifier().verify(f"{compact({}, header, bytes).split('.')[1]}.{token}", NOW)
        assert reason(found) is Reason.INVALID_TOKEN

    @settings(deadline=None)
    @given(
        st.sampled_from(sorted(CLAIMS)),
        st.none() | st.booleans() | st.floats() | st.integers() | st.text() | st.just([AUDIENCE]),
    )
    def test_any_claim(self, name: str, value: Any) -> None:
        """Claims of any type, signed by the provider: an identity or a refusal."""
        header = {"alg": "RS256", "kid": "rsa"}
        token = compact(header, {**CLAIMS, name: value}, rs256(RSA.private_key))
        assert isinstance(verifier().verify(token, NOW), Identity | TokenRefusal)

    @pytest.mark.parametrize("header", ["x", "é", "{}", '{"alg":"RS256"}'])
    def test_no_keys_yet(self, header: str) -> None:
        """Without keys: what can never be valid is so, the rest is an outage."""
        bare = verifier(None)
        assert reason(bare.verify(header, NOW)) is Reason.INVALID_TOKEN
        assert reason(bare.verify(sign(CLAIMS), NOW)) is Reason.OAUTH_PROVIDER_UNAVAILABLE


class TestMemory:
    def test_a_verified_token_expires(self) -> None:
        """A token that was verified before is refused once it has expired."""
        tokens, token = verifier(), sign(CLAIMS)
        assert tokens.verify(token, NOW) == WHO
        assert tokens.verify(token, NOW + 3659) == WHO
        assert reason(tokens.verify(token, NOW + 3660)) is Reason.INVALID_TOKEN

    def test_keys_that_are_too_old(self) -> None:
        """Verified before or not: with keys beyond their age it is an outage."""
        tokens, token = verifier(usable_until=NOW + 10), sign(CLAIMS)
        assert tokens.verify(token, NOW) == WHO
        assert reason(tokens.verify(token, NOW + 10)) is Reason.OAUTH_PROVIDER_UNAVAILABLE

    def test_an_unknown_key_is_told(self) -> None:
        """Each token of a key that is not published asks for a look; others do not."""
        asked: list[int] = []
        tokens = verifier(key_set(jwk(CURVE)), unknown_key=lambda: asked.append(1))
        assert reason(tokens.verify(sign(CLAIMS), NOW)) is Reason.INVALID_TOKEN
        assert tokens.verify(sign(CLAIMS, "ES256"), NOW) == WHO
        assert reason(tokens.verify("x", NOW)) is Reason.INVALID_TOKEN
        assert asked == [1]

    def test_it_is_bounded(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Only so many tokens are remembered; all are verified all the same."""
        monkeypatch.setattr("extauthz.core.tokens.MAX_VERIFIED", 3)
        tokens = verifier()
        for number in range(9):
            token = sign({**CLAIMS, "jti": str(number)})
            assert tokens.verify(token, NOW) == tokens.verify(token, NOW) == WHO
            assert len(tokens._verified) <= 3
        assert MAX_VERIFIED == 10_000

    def test_no_token_is_kept(self) -> None:
        """What is remembered is a digest."""
        tokens, token = verifier(), sign(CLAIMS)
        tokens.verify(token, NOW)
        assert [len(key) for key in tokens._verified] == [32]


class TestKeys:
    @pytest.mark.parametrize(
        "key",
        [
            jwk(RSA, use="enc"),
            jwk(RSA, key_ops=["encrypt"]),
            jwk(RSA, key_ops="verify"),
            jwk(RSA, alg="RS1"),
            jwk(RSA, alg="HS256"),
            jwk(RSA, kid=7),
            jwk(RSA, n="AQAB"),
            jwk(RSA, n=7),
            jwk(WEAK),
            RSA.as_dict(private=True),
            jwk(CURVE, crv="P-384"),
            jwk(CURVE, x="AAAA"),
            jwk(ECKey.generate_key("secp256k1")),
            OctKey.generate_key(256).as_dict(),
            {"kty": "oct", "k": "AAAA"},
            {"kty": "RSA"},
            {},
            "key",
            None,
        ],
    )
    @pytest.mark.filterwarnings("ignore")
    def test_not_for_tokens(self, key: Any) -> None:
        """Keys for other uses, weak, private, symmetric or broken ones are left out."""
        assert key_set(jwk(CURVE), key).size == 1
        with pytest.raises(Invalid, match="holds no key that can verify tokens; publish"):
            key_set(key)

    @pytest.mark.parametrize(
        "document", [None, [], {}, {"keys": {}}, {"keys": []}, {"keys": [jwk(RSA)] * 101}]
    )
    def test_not_a_key_set(self, document: Any) -> None:
        """What is no JWK Set is refused with the mend."""
        with pytest.raises(Invalid) as refused:
            KeySet(document)
        assert refused.value.mend

    def test_algorithm_of_the_key(self) -> None:
        """A key that names its algorithm serves no other."""
        tokens = verifier(key_set(jwk(RSA, alg="PS256")))
        assert tokens.verify(sign(CLAIMS, "PS256"), NOW) == WHO
        assert reason(tokens.verify(sign(CLAIMS, "RS256"), NOW)) is Reason.INVALID_TOKEN

    def test_digest(self) -> None:
        """The same keys in another order are the same set; another key is another."""
        one, other = jwk(RSA), jwk(CURVE)
        assert key_set(one, other).digest == key_set(other, one, {"kty": "x"}).digest
        assert key_set(one).digest != key_set(other).digest


def document(**auth: Any) -> dict[str, Any]:
    return {
        "schema_version": "v1",
        "server": {"name": "srv", "namespace": "ns"},
        "auth": {"mode": "oauth", "issuer_url": ISSUER, "audience": AUDIENCE, **auth},
        "grants": [{"name": "g", "human_id": "alice"}],
        "sessions": [{"name": "s", "human_id": "alice"}],
    }


class TestPolicy:
    def test_defaults(self) -> None:
        """Claims and header as wire formats name them; the token's header must stand once."""
        policy = compile_document(document())
        assert policy.oauth == RULES
        assert "authorization" in policy.watched

    def test_mapping(self) -> None:
        """Claims and header are the policy's to name."""
        auth = {"claims": {"team_id": "org"}, "token_header": "X-Token", "jwks_url": "https://k/"}
        oauth = compile_document(document(**auth)).oauth
        assert oauth == replace(
            RULES, team_claims=("org",), header="x-token", jwks_url="https://k/"
        )

    @pytest.mark.parametrize(
        ("auth", "field"),
        [
            ({"issuer_url": ""}, "$.auth.issuer_url"),
            ({"audience": ""}, "$.auth.audience"),
            ({"issuer_url": "http://login.example"}, "$.auth.issuer_url"),
            ({"issuer_url": "login.example"}, "$.auth.issuer_url"),
            ({"jwks_url": "http://10.0.0.1/jwks"}, "$.auth.jwks_url"),
            ({"jwks_url": "file:///etc/passwd"}, "$.auth.jwks_url"),
            ({"jwks_url": "https://u:p@login.example/"}, "$.auth.jwks_url"),
            ({"token_header": "X-MCP-Human-ID"}, "$.auth.token_header"),
            ({"token_header": "Content-Type"}, "$.auth.token_header"),
            ({"claims": {"humanID": "x"}}, "$.auth.claims.humanID"),
            ({"mode": "mtls"}, "$.auth.mode"),
        ],
    )
    def test_refused(self, auth: dict[str, Any], field: str) -> None:
        """What could never work, or not be trusted, is refused with its path and mend."""
        with pytest.raises(Invalid) as refused:
            compile_document(document(**auth))
        assert (refused.value.field, bool(refused.value.mend)) == (field, True)

    def test_an_issuer_that_is_only_compared(self) -> None:
        """With a JWKS address of its own the issuer is a name."""
        auth = {"issuer_url": "http://login.svc", "jwks_url": "https://keys.example/jwks"}
        assert compile_document(document(**auth)).oauth


def ask(snapshot: Snapshot, *headers: tuple[str, str], method: str = "tools/call") -> Decision:
    body = {"jsonrpc": "2.0", "id": 1, "method": method}
    if method == "tools/call":
        body["params"] = {"name": "echo"}
    every = (("content-type", "application/json"), *headers)
    request = Request(
        "POST",
        "/mcp?x=1",
        tuple((name, value.encode()) for name, value in every),
        json.dumps(body).encode(),
        host="mcp.example",
        scheme="https",
    )
    return snapshot.decide(request, NOW)


class TestDecision:
    def snapshot(self, **auth: Any) -> Snapshot:
        policy = compile_document(document(**auth))
        assert policy.oauth
        return replace(Snapshot.of(policy, NOW), tokens=TokenVerifier(policy.oauth, ALL))

    def test_a_token_decides(self) -> None:
        """Its identity, and no header's, is what grants are matched with."""
        bearer = ("authorization", f"Bearer {sign(CLAIMS)}")
        decision = ask(self.snapshot(), bearer, ("x-mcp-human-id", "bob"))
        assert (decision.reason, decision.identity) == (Reason.ALLOWED, WHO)
        token = sign({**CLAIMS, "sub": "bob"})
        forged = (("authorization", f"Bearer {token}"), ("x-mcp-human-id", "alice"))
        assert ask(self.snapshot(), *forged).reason is Reason.NO_MATCHING_GRANT

    @pytest.mark.parametrize(
        ("claims", "session"), [({}, "s"), ({"sid": "s"}, "s"), ({"sid": "t"}, "t")]
    )
    def test_session(self, claims: dict[str, Any], session: str) -> None:
        """The token's session comes before the header's."""
        bearer = ("authorization", f"Bearer {sign({**CLAIMS, **claims})}")
        decision = ask(self.snapshot(), bearer, ("x-mcp-agent-session", "s"))
        assert decision.identity.session_id == session

    def test_a_header_of_its_own(self) -> None:
        """There the token may stand alone; Authorization is then the server's affair."""
        snapshot = self.snapshot(token_header="X-Token")
        for value in (sign(CLAIMS), f"bearer {sign(CLAIMS)}"):
            assert ask(snapshot, ("x-token", value)).reason is Reason.ALLOWED
        bearer = ("authorization", f"Bearer {sign(CLAIMS)}")
        assert ask(snapshot, bearer).reason is Reason.MISSING_BEARER_TOKEN
        assert ask(snapshot, ("x-token", "x"), ("x-token", "y")).reason is Reason.DUPLICATE_HEADER

    @pytest.mark.parametrize("method", ["tools/call", "initialize", "unheard/of"])
    def test_every_message_needs_a_token(self, method: str) -> None:
        """Row 2b comes before rows 3 and 3a, in every mode, and says where to sign in."""
        for policy in ({"mode": "allow-list"}, {"mode": "observe"}):
            compiled = compile_document(document() | {"policy": policy})
            decision = ask(Snapshot.of(compiled, NOW), method=method)
            assert decision.reason is Reason.MISSING_BEARER_TOKEN
            assert decision.resource_metadata == (
                "https://mcp.example/.well-known/oauth-protected-resource/mcp"
            )
            assert not decision.allowed

    def test_a_stranger_has_no_large_body_read(self) -> None:
        """Without a token it costs nothing, whatever it holds; with one it is read."""
        headers = (("content-type", b"application/json"), ("host", b"mcp.example"))
        large = Request("POST", "/mcp", headers, b"[" * 100_000, host="mcp.example", scheme="https")
        decision = self.snapshot().decide(large, NOW)
        assert decision.reason is Reason.MISSING_BEARER_TOKEN
        assert decision.resource_metadata
        token = ("authorization", f"Bearer {sign(CLAIMS)}".encode())
        known = structs.replace(large, headers=(*headers, token))
        assert self.snapshot().decide(known, NOW).reason is Reason.NESTING_TOO_DEEP

    def test_without_keys(self) -> None:
        """Offline there is nothing to verify by: an outage, and it says so."""
        bare = Snapshot.of(compile_document(document()), NOW)
        decision = ask(bare, ("authorization", f"Bearer {sign(CLAIMS)}"))
        assert decision.reason is Reason.OAUTH_PROVIDER_UNAVAILABLE
        assert "running decision point" in decision.detail
        assert decision.resource_metadata == ""

    def test_an_older_row_speaks_first(self) -> None:
        """A policy that is stale is the reason, whatever the token."""
        compiled = compile_document(
            document() | {"policy": {"max_staleness": "1s"}, "generated_at": "2020-01-01T00:00:00Z"}
        )
        assert ask(Snapshot.of(compiled)).reason is Reason.POLICY_STALE

    def test_nobody_in_the_token(self) -> None:
        """A valid token that names nobody is row 4."""
        claims = {name: value for name, value in CLAIMS.items() if name not in ("sub", "client_id")}
        decision = ask(self.snapshot(), ("authorization", f"Bearer {sign(claims)}"))
        assert decision.reason is Reason.MISSING_IDENTITY


class TestUrls:
    @pytest.mark.parametrize(
        ("method", "path", "expected"),
        [
            ("GET", "/.well-known/oauth-protected-resource", True),
            ("GET", "/.well-known/oauth-protected-resource/", True),
            ("GET", "/.well-known/oauth-protected-resource/a-b/c.d?x=%2e", True),
            ("POST", "/.well-known/oauth-protected-resource", False),
            ("HEAD", "/.well-known/oauth-protected-resource", False),
            ("GET", "/.well-known/oauth-protected-resource2", False),
            ("GET", "/.well-known/oauth-protected-resource/../x", False),
            ("GET", "/.well-known/oauth-protected-resource/.x", False),
            ("GET", "/.well-known/oauth-protected-resource/..;/x", False),
            ("GET", "/.well-known/oauth-protected-resource//x", False),
            ("GET", "/.well-known/oauth-protected-resource/%2e%2e/x", False),
            ("GET", "/.well-known/oauth-protected-resource\\x", False),
            ("GET", "/.Well-Known/oauth-protected-resource", False),
        ],
    )
    def test_metadata_requests(self, method: str, path: str, expected: bool) -> None:
        """Only plain segments under the one path: no server reads another resource there."""
        assert is_metadata(Request(method, path)) is expected

    @pytest.mark.parametrize(
        ("host", "scheme", "path", "url"),
        [
            ("h:8443", "https", "/", "https://h:8443/.well-known/oauth-protected-resource"),
            ("[::1]:1", "http", "/a/", "http://[::1]:1/.well-known/oauth-protected-resource/a"),
            ('h", error="x', "https", "/", ""),
            ("h", "https", '/a"b', ""),
            ("h", "https", "/a\r\nb", ""),
            ("h", "javascript", "/", ""),
            ("", "https", "/", ""),
        ],
    )
    def test_metadata_url(self, host: str, scheme: str, path: str, url: str) -> None:
        """As the client sees the server; nothing where it could not be quoted."""
        assert metadata_url(Request("POST", path, host=host, scheme=scheme)) == url

    @pytest.mark.parametrize(
        "url", ["https://h/x?p=1", "https://h:8443/", "http://127.0.0.1:1/", "http://[::1]/x"]
    )
    def test_key_urls(self, url: str) -> None:
        """https, and http to this machine."""
        assert check_key_url(url, "here") is None  # nothing is raised
