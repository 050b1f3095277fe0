"""Bearer tokens that must be refused, each made by hand from a valid one."""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable, Mapping
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from joserfc.jwk import ECKey, RSAKey

Sign = Callable[[bytes], bytes]


def encode(data: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def compact(header: Mapping[str, Any], payload: bytes | Mapping[str, Any], sign: Sign) -> str:
    """A JWS in its compact form, whatever header and payload hold."""
    body = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
    signed = f"{encode(json.dumps(header).encode())}.{encode(body)}"
    return f"{signed}.{encode(sign(signed.encode()))}"


def rs256(key: rsa.RSAPrivateKey) -> Sign:
    return lambda data: key.sign(data, padding.PKCS1v15(), hashes.SHA256())


def es256(key: ec.EllipticCurvePrivateKey) -> Sign:
    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")

    return sign


def hs256(secret: bytes) -> Sign:
    return lambda data: hmac.new(secret, data, hashlib.sha256).digest()


def forged_tokens(claims: Mapping[str, Any], key: RSAKey, curve: ECKey) -> dict[str, str]:
    """Name to token.

    Args:
        claims: of a valid token.
        key, curve: two keys of the provider, both published.
    """
    return {
        **_wrong_claims(claims, key),
        **_without_signature(claims, key),
        **_public_key_as_secret(claims, key),
        **_keys_of_the_attacker(claims, key, curve),
        **_odd_forms(claims, key),
    }


def _wrong_claims(claims: Mapping[str, Any], key: RSAKey) -> dict[str, str]:
    issuer, audience, now = claims["iss"], claims["aud"], claims["iat"]
    changed: dict[str, dict[str, Any]] = {
        "another audience": {"aud": "https://other.example"},
        "audiences without ours": {"aud": ["https://other.example", audience + "/"]},
        "audience in capitals": {"aud": audience.upper()},
        "audience as an object": {"aud": {audience: True}},
        "another issuer": {"iss": "https://other.example"},
        "issuer with a slash": {"iss": issuer + "/"},
        "issuer in a list": {"iss": [issuer]},
        "expired": {"exp": now - 61},
        "expired long ago": {"exp": 1},
        "expiry as text": {"exp": str(now + 3600)},
        "expiry as a boolean": {"exp": True},
        "expiry of null": {"exp": None},
        "not valid yet": {"nbf": now + 120},
        "issued in the future": {"iat": now + 120},
        "subject as a number": {"sub": 7},
        "subject with a line break": {"sub": "alice\r\nX-MCP-Team-ID: t"},
        "subject with a blank after it": {"sub": "alice "},
    }
    header, sign = {"alg": "RS256", "kid": key.kid}, rs256(key.private_key)
    found = {name: compact(header, {**claims, **new}, sign) for name, new in changed.items()}
    for name in ("iss", "aud", "exp"):
        rest = {claim: value for claim, value in claims.items() if claim != name}
        found[f"no {name}"] = compact(header, rest, sign)
    twice = json.dumps(claims)[:-1].encode() + b', "sub": "mallory"}'
    return found | {
        "one claim twice": compact(header, twice, sign),
        "claims in a list": compact(header, json.dumps([claims]).encode(), sign),
        "huge": compact(header, {**claims, "fill": "x" * 20_000}, sign),
    }


def _without_signature(claims: Mapping[str, Any], key: RSAKey) -> dict[str, str]:
    valid = compact({"alg": "RS256", "kid": key.kid}, claims, rs256(key.private_key))
    head, body, signature = valid.split(".")
    other = encode(json.dumps({**claims, "sub": "mallory"}).encode())
    found = {
        "signature left out": f"{head}.{body}.",
        "two segments": f"{head}.{body}",
        "four segments": f"{valid}.{signature}",
        "five segments": f"{valid}.{signature}.{signature}",
        "other claims": f"{head}.{other}.{signature}",
        "signature cut short": valid[:-8],
    }
    for name in ("none", "None", "NONE", "nOnE", ""):
        for kept in ("", signature):
            bare = encode(json.dumps({"alg": name, "kid": key.kid}).encode())
            found[f"alg {name!r}, {'with' if kept else 'without'} signature"] = (
                f"{bare}.{body}.{kept}"
            )
    return found


def _public_key_as_secret(claims: Mapping[str, Any], key: RSAKey) -> dict[str, str]:
    public = key.public_key
    shown = json.dumps(key.as_dict(private=False)).encode()
    secrets = {
        "PEM": public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "DER": public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "JWK": shown,
        "nothing": b"",
    }
    return {
        f"HMAC with {name}": compact({"alg": "HS256", "kid": key.kid}, claims, hs256(secret))
        for name, secret in secrets.items()
    }


def _keys_of_the_attacker(claims: Mapping[str, Any], key: RSAKey, curve: ECKey) -> dict[str, str]:
    attacker = RSAKey.generate_key(2048)
    attacker.ensure_kid()
    mine, ours = rs256(attacker.private_key), rs256(key.private_key)
    shown = attacker.as_dict(private=False)
    url = "https://attacker.example/jwks"
    headers: dict[str, dict[str, Any]] = {
        "the attacker's kid": {"kid": attacker.kid},
        "the right kid": {"kid": key.kid},
        "no kid": {},
        "kid as a path": {"kid": "../../../../dev/null"},
        "kid as SQL": {"kid": "x' UNION SELECT 'key"},
        "kid as a URL": {"kid": url},
        "kid with NUL": {"kid": f"{key.kid}\0"},
        "kid as a list": {"kid": [key.kid]},
        "kid as a number": {"kid": 0},
        "kid of null": {"kid": None},
        "kid that is long": {"kid": "k" * 5_000},
        "jku": {"kid": attacker.kid, "jku": url},
        "jku and the right kid": {"kid": key.kid, "jku": url},
        "x5u": {"kid": attacker.kid, "x5u": url},
        "jwk": {"kid": attacker.kid, "jwk": shown},
        "jwk and the right kid": {"kid": key.kid, "jwk": shown},
        "x5c": {"kid": key.kid, "x5c": ["MIIB"]},
        "the curve's kid": {"kid": curve.kid},
    }
    found = {
        f"signed by the attacker, {name}": compact({"alg": "RS256", **header}, claims, mine)
        for name, header in headers.items()
    }
    zero: Sign = lambda _: bytes(64)  # noqa: E731
    return found | {
        "RS256 with the curve's kid": compact({"alg": "RS256", "kid": curve.kid}, claims, ours),
        "ES256 with the RSA kid": compact(
            {"alg": "ES256", "kid": key.kid}, claims, es256(curve.private_key)
        ),
        "RS256 signed on the curve": compact(
            {"alg": "RS256", "kid": curve.kid}, claims, es256(curve.private_key)
        ),
        "PS256 over an RS256 signature": compact({"alg": "PS256", "kid": key.kid}, claims, ours),
        "a signature of zeros": compact({"alg": "ES256", "kid": curve.kid}, claims, zero),
    }


def _odd_forms(claims: Mapping[str, Any], key: RSAKey) -> dict[str, str]:
    sign = rs256(key.private_key)
    plain = {"alg": "RS256", "kid": key.kid}
    valid = compact(plain, claims, sign)
    head, body, signature = valid.split(".")
    as_json = {"protected": head, "payload": body, "signature": signature}
    return {
        "a logout token": compact({**plain, "typ": "logout+jwt"}, claims, sign),
        "a DPoP proof": compact({**plain, "typ": "dpop+jwt"}, claims, sign),
        "typ as a list": compact({**plain, "typ": ["JWT"]}, claims, sign),
        "an unknown critical extension": compact({**plain, "crit": ["x"], "x": 1}, claims, sign),
        "a detached payload": compact({**plain, "crit": ["b64"], "b64": False}, claims, sign),
        "the JSON form": json.dumps(as_json, separators=(",", ":")),
        "padding": f"{head}=.{body}.{signature}",
        "a dot before it": f".{valid}",
        "a percent": f"%{valid}",
        "not even close": "x",
        "dots alone": "..",
    }
