"""A certificate authority of a test, and what it signs."""

import datetime
import ipaddress
from uuid import uuid4

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

_DAY = datetime.timedelta(days=1)


class ScriptedAuthority:
    """Signs certificates.

    Args:
        common: its name; by default one that no other has.

    Attributes:
        pem: its own certificate.
    """

    def __init__(self, common: str = "") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name(common or f"authority {uuid4()}")
        made = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=None), critical=True
        )
        self.pem = _pem(made.sign(self._key, hashes.SHA256()))

    def sign(self, host: str, common: str = "", organization: str = "") -> tuple[bytes, bytes]:
        """Key and certificate, PEM.

        Args:
            host: a name or an IP address.
            common, organization: of whom; by default `host` alone.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        try:
            name: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            name = x509.DNSName(host)
        subject = _name(common or host, organization)
        made = _builder(subject, self._name, key).add_extension(
            x509.SubjectAlternativeName([name]), critical=False
        )
        return private_pem(key), _pem(made.sign(self._key, hashes.SHA256()))


def private_pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """A private key as a file has it, for whoever can read the file."""
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _name(common: str, organization: str = "") -> x509.Name:
    parts = [x509.NameAttribute(NameOID.COMMON_NAME, common)]
    if organization:
        parts.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(parts)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _DAY)
        .not_valid_after(now + _DAY)
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
