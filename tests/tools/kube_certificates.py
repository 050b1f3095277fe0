"""Certificates and keys of a throw-away cluster on 127.0.0.1."""

import datetime
import ipaddress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

LIFETIME = datetime.timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Certificates:
    """PEM files: an authority, what it signed, and the key pair of service accounts."""

    authority: Path
    server: Path
    server_key: Path
    admin: Path
    admin_key: Path
    accounts_public: Path
    accounts_key: Path


def write_certificates(folder: Path) -> Certificates:
    """Make them anew in `folder`; the admin is in `system:masters`."""
    folder.mkdir(parents=True)
    names = (f"{name}.pem" for name in Certificates.__dataclass_fields__)
    files = Certificates(*(folder / name for name in names))
    authority_key = ec.generate_private_key(ec.SECP256R1())
    subject = _name("tests")
    authority = (
        _builder(subject, subject, authority_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    files.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    loopback = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = ((files.server, files.server_key, _name("127.0.0.1")),)
    signed += ((files.admin, files.admin_key, _name("admin", "system:masters")),)
    for certificate, key_file, name in signed:
        key = ec.generate_private_key(ec.SECP256R1())
        made = _builder(name, subject, key).add_extension(loopback, critical=False)
        pem = made.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        certificate.write_bytes(pem)
        _write_key(key_file, key)
    write_accounts_key(files)
    return files


def write_accounts_key(files: Certificates) -> None:
    """A new key for tokens of service accounts; the old one is gone."""
    accounts = rsa.generate_private_key(65537, 2048)
    _write_key(files.accounts_key, accounts)
    files.accounts_public.write_bytes(
        accounts.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
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
        .not_valid_before(now - LIFETIME)
        .not_valid_after(now + LIFETIME)
    )


def _write_key(file: Path, key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> None:
    file.touch(mode=0o600)
    file.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
