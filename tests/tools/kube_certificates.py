"""Certificates and keys of a throw-away cluster on 127.0.0.1."""

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from tests.tools.scripted_authority import ScriptedAuthority, private_pem


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
    authority = ScriptedAuthority("tests")
    files.authority.write_bytes(authority.pem)
    signed = (
        (files.server, files.server_key, ("127.0.0.1",)),
        (files.admin, files.admin_key, ("admin", "system:masters")),
    )
    for certificate, key_file, name in signed:
        key, pem = authority.sign("127.0.0.1", *name)
        certificate.write_bytes(pem)
        _write_key(key_file, key)
    write_accounts_key(files)
    return files


def write_accounts_key(files: Certificates) -> None:
    """A new key for tokens of service accounts; the old one is gone."""
    accounts = rsa.generate_private_key(65537, 2048)
    _write_key(files.accounts_key, private_pem(accounts))
    files.accounts_public.write_bytes(
        accounts.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    )


def _write_key(file: Path, pem: bytes) -> None:
    file.touch(mode=0o600)
    file.write_bytes(pem)
