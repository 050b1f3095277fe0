"""The certificate by which sidecars know the controller: from files, or made and rotated here.

What is made lies in a Secret, so that all replicas have the same.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from backend.ports.control_plane import ControlPlane, Secret
from extauthz.core.errors import Conflict, Invalid

SECRET: Final = "mcp-sentinel-controller-tls"  # noqa: S105 - its name
AUTHORITY_DAYS: Final = 3650
DAYS: Final = 90
LEFT_DAYS: Final = 30  # before its end a certificate is made anew

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Certificate:
    """Args: chain, key: PEM; authority: PEM of who signed it, empty where sidecars know it."""

    chain: bytes
    key: bytes
    authority: bytes = b""


class Certificates(Protocol):
    """Where the certificate comes from."""

    async def current(self) -> Certificate:
        """The one to be used now; asked again and again. Raises: Invalid, Retryable."""


class CertificateFiles:
    """A certificate and its key as two files, which others rotate."""

    def __init__(self, chain: Path, key: Path) -> None:
        self._chain, self._key = chain, key

    async def current(self) -> Certificate:
        try:
            return Certificate(self._chain.read_bytes(), self._key.read_bytes())
        except OSError as error:
            problem = f"`{error.filename}` cannot be read ({error.strerror})"
            raise Invalid("CONTROLLER_TLS_CERT_FILE", problem, "name readable files") from error


class OwnCertificates:
    """Made here, by an authority of its own.

    Args:
        names: DNS names and addresses that sidecars reach the controller by.
        clock: seconds since the epoch.
    """

    def __init__(
        self, control: ControlPlane, names: Sequence[str], clock: Callable[[], float]
    ) -> None:
        self._control, self._names, self._clock = control, tuple(names), clock

    async def current(self) -> Certificate:
        while True:
            found = await self._control.secret(SECRET)
            if found is not None and self._is_good(found.data):
                data = found.data
                return Certificate(data["tls.crt"], data["tls.key"], data["ca.crt"])
            made = self._make(found.data if found else {})
            try:
                await self._control.write_secret(
                    SECRET, Secret(made, found.version if found else "")
                )
            except Conflict:
                continue  # another replica made one
            _log.info("certificate made", extra={"secret": SECRET, "names": list(self._names)})

    def _is_good(self, data: Mapping[str, bytes]) -> bool:
        try:
            leaf = x509.load_pem_x509_certificate(data["tls.crt"])
            authority = x509.load_pem_x509_certificate(data["ca.crt"])
            serialization.load_pem_private_key(data["tls.key"], None)
            leaf.verify_directly_issued_by(authority)
            names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        except (KeyError, ValueError, TypeError, InvalidSignature, x509.ExtensionNotFound):
            return False
        until = self._now() + timedelta(days=LEFT_DAYS)
        is_long = until < min(leaf.not_valid_after_utc, authority.not_valid_after_utc)
        return is_long and set(names) == set(_names(self._names))

    def _make(self, before: Mapping[str, bytes]) -> dict[str, bytes]:
        """A new certificate; by the same authority as before, so that nobody has to learn of it."""
        authority_pem, authority_key_pem = before.get("ca.crt", b""), before.get("ca.key", b"")
        try:
            authority = x509.load_pem_x509_certificate(authority_pem)
            authority_key = serialization.load_pem_private_key(authority_key_pem, None)
            left = authority.not_valid_after_utc - self._now()
            if left < timedelta(days=DAYS) or not isinstance(
                authority_key, ec.EllipticCurvePrivateKey
            ):
                raise ValueError
        except ValueError:
            authority_key = ec.generate_private_key(ec.SECP256R1())
            authority = self._authority(authority_key)
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self._leaf(key, authority, authority_key)
        return {
            "ca.crt": _pem(authority),
            "ca.key": _key_pem(authority_key),
            "tls.crt": _pem(leaf),
            "tls.key": _key_pem(key),
        }

    def _authority(self, key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
        name = _named("mcp-sentinel-controller-ca")
        made = self._builder(name, name, key, AUTHORITY_DAYS)
        made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        made = made.add_extension(_usage(signs=True), critical=True)
        return made.sign(key, hashes.SHA256())

    def _leaf(
        self,
        key: ec.EllipticCurvePrivateKey,
        authority: x509.Certificate,
        authority_key: ec.EllipticCurvePrivateKey,
    ) -> x509.Certificate:
        made = self._builder(_named(self._names[0][:64]), authority.subject, key, DAYS)
        names = x509.SubjectAlternativeName(_names(self._names))
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
        serves = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(_usage(signs=False), critical=True)
        for extension in (names, issuer, serves):
            made = made.add_extension(extension, critical=False)
        return made.sign(authority_key, hashes.SHA256())

    def _builder(
        self, subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
    ) -> x509.CertificateBuilder:
        begin = self._now() - timedelta(hours=1)  # clocks differ
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin)
            .not_valid_after(begin + timedelta(days=days))
            .add_extension(identifier, critical=False)
        )

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: list[x509.GeneralName] = []
    for name in names:
        try:
            found.append(x509.IPAddress(ip_address(name)))
        except ValueError:
            found.append(x509.DNSName(name))
    return found


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs,
        crl_sign=signs,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
