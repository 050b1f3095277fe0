"""A real authorization server on loopback: Authlib issues RFC 9068 tokens, signed by joserfc.

It shares no code with what verifies them.
"""

import os
import threading
import time
import urllib.request
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from json import loads
from pathlib import Path
from typing import Any

from authlib.integrations.flask_oauth2 import AuthorizationServer
from authlib.oauth2.rfc6749 import ClientCredentialsGrant, ClientMixin
from authlib.oauth2.rfc9068 import JWTBearerTokenGenerator
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from flask import Flask, Response, jsonify
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey
from werkzeug.serving import BaseWSGIServer, make_server

from tests.tools.waiting import SECONDS

Key = RSAKey | ECKey
SECRET = "of-every-client"


@dataclass(frozen=True)
class Client(ClientMixin):
    """A registered client; `claims` go into its tokens."""

    id: str
    claims: Mapping[str, Any]

    def get_client_id(self) -> str:
        return self.id

    def get_allowed_scope(self, scope: str | None) -> str:
        return scope or ""

    def check_client_secret(self, client_secret: str) -> bool:
        return client_secret == SECRET

    def check_endpoint_auth_method(self, method: str, endpoint: str) -> bool:
        return method == "client_secret_basic"

    def check_grant_type(self, grant_type: str) -> bool:
        return grant_type == "client_credentials"


class _Tokens(JWTBearerTokenGenerator):
    """RFC 9068 tokens of one provider."""

    def __init__(self, provider: "Provider") -> None:
        super().__init__(provider.issuer, expires_generator=lambda *_: 3600)
        self._provider = provider

    def get_jwks(self) -> KeySet:
        return KeySet([self._provider.signing])

    def get_audiences(self, client: Client, user: object, scope: str) -> str:
        return self._provider.audience

    def get_extra_claims(
        self, client: Client, grant_type: str, user: object, scope: str
    ) -> Mapping[str, Any]:
        return client.claims


@dataclass
class Provider:
    """The server.

    Attributes:
        audience: of the tokens that it issues.
        published: keys that it serves; `signing`: the one that it signs with.
        fetched: how often its keys were asked for.
        certificate: files of the certificate and its key; serves https where they are given.
    """

    audience: str
    published: list[Key] = field(default_factory=list)
    signing: RSAKey = field(init=False)
    fetched: int = 0
    port: int = 0
    clients: dict[str, Client] = field(default_factory=dict)
    certificate: tuple[Path, Path] | None = None
    _server: BaseWSGIServer | None = None

    def __post_init__(self) -> None:
        self.start()
        self.signing = self.publish()

    @property
    def issuer(self) -> str:
        scheme = "https" if self.certificate else "http"
        return f"{scheme}://127.0.0.1:{self.port}"

    def publish(self) -> RSAKey:
        """Make a key and serve it, beside those before it."""
        key = RSAKey.generate_key(2048, {"use": "sig"})
        key.ensure_kid()
        self.published = [*self.published, key]
        return key

    def withdraw(self, key: Key) -> None:
        """Serve a key no longer."""
        self.published = [each for each in self.published if each is not key]

    def token(self, client: str, **claims: Any) -> str:
        """Ask for a token as a client does; `claims` are what this client's tokens carry."""
        self.clients[client] = Client(client, claims)
        credentials = b64encode(f"{client}:{SECRET}".encode()).decode()
        request = urllib.request.Request(
            f"{self.issuer}/token",
            b"grant_type=client_credentials",
            {"Authorization": f"Basic {credentials}"},
        )
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            token: str = loads(response.read())["access_token"]
        return token

    def claims(self, **changed: Any) -> dict[str, Any]:
        """Claims of a valid token; those that are changed to None are left out."""
        now = int(time.time())
        valid = {"iss": self.issuer, "aud": self.audience, "iat": now, "exp": now + 3600}
        every = valid | {"sub": "alice", "client_id": "ops", **changed}
        return {name: value for name, value in every.items() if value is not None}

    def sign(self, claims: Mapping[str, Any], key: Key | None = None, **header: Any) -> str:
        """Sign any claims, with the key that it signs with or another."""
        kid = self.signing.kid
        return jwt.encode({"alg": "RS256", "kid": kid, **header}, dict(claims), key or self.signing)

    def start(self) -> None:
        """Serve, on the port that it had before."""
        os.environ["AUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback needs no TLS
        app = Flask(__name__)
        self._server = make_server(
            "127.0.0.1", self.port, app, threaded=True, ssl_context=self._files()
        )
        self.port = self._server.server_port
        self._route(app)  # what the routes say needs the port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        """Go away."""
        server, self._server = self._server, None
        if server:
            server.shutdown()
            server.server_close()

    def _files(self) -> tuple[str, str] | None:
        return (str(self.certificate[0]), str(self.certificate[1])) if self.certificate else None

    def _route(self, app: Flask) -> None:
        server = AuthorizationServer(app, query_client=self.clients.get, save_token=lambda *_: None)
        server.register_grant(ClientCredentialsGrant)
        server.register_token_generator("default", _Tokens(self))
        for path, view in (
            ("/.well-known/openid-configuration", self._metadata),
            ("/jwks", self._jwks),
        ):
            app.add_url_rule(path, view_func=view)
        app.add_url_rule("/token", "token", server.create_token_response, methods=["POST"])
        self._serve_more(app, server)

    def _serve_more(self, app: Flask, server: AuthorizationServer) -> None:
        """What a provider of another kind adds."""

    def _metadata(self) -> Response:
        return jsonify(self._described())

    def _described(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "jwks_uri": f"{self.issuer}/jwks",
            "token_endpoint": f"{self.issuer}/token",
            "response_types_supported": ["token"],
        }

    def _jwks(self) -> Response:
        self.fetched += 1
        return jsonify(KeySet(list(self.published)).as_dict(private=False))


def certify(folder: Path) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1 that is its own authority, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "provider under test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    files = folder / "provider.pem", folder / "provider.key"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    files[1].write_bytes(pem)
    return files


@contextmanager
def provider(audience: str, certificate: tuple[Path, Path] | None = None) -> Iterator[Provider]:
    """Serve on a free loopback port."""
    running = Provider(audience, certificate=certificate)
    try:
        yield running
    finally:
        running.stop()
