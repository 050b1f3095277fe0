"""The controller's own certificate."""

from pathlib import Path

import pytest
from cryptography import x509

from backend.controller.certificates import DAYS, SECRET, CertificateFiles, OwnCertificates
from extauthz.core.errors import Invalid
from tests.unit.backend.controller.scripted_plane import ScriptedPlane

NOW, DAY = 1_800_000_000.0, 86_400.0
NAMES = ["controller.ns.svc", "127.0.0.1"]


@pytest.fixture
def plane() -> ScriptedPlane:
    return ScriptedPlane()


async def test_replicas_share_one(plane: ScriptedPlane) -> None:
    """The first makes it, the others find it; it is for the names, and by the authority."""
    first = await OwnCertificates(plane, NAMES, lambda: NOW).current()
    second = await OwnCertificates(plane, NAMES, lambda: NOW).current()
    assert first == second
    leaf = x509.load_pem_x509_certificate(first.chain)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(first.authority))
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["controller.ns.svc"]


async def test_it_is_rotated_by_the_same_authority(plane: ScriptedPlane) -> None:
    """Before its end another takes its place, which sidecars know without being told."""
    first = await OwnCertificates(plane, NAMES, lambda: NOW).current()
    same = await OwnCertificates(plane, NAMES, lambda: NOW + 30 * DAY).current()
    later = await OwnCertificates(plane, NAMES, lambda: NOW + (DAYS - 20) * DAY).current()
    assert same == first
    assert later.chain != first.chain
    assert later.authority == first.authority


async def test_other_names_make_another(plane: ScriptedPlane) -> None:
    """A certificate that is not for the names is made anew."""
    first = await OwnCertificates(plane, NAMES, lambda: NOW).current()
    other = await OwnCertificates(plane, ["other"], lambda: NOW).current()
    assert other.chain != first.chain


@pytest.mark.parametrize("member", ["ca.crt", "ca.key", "tls.crt", "tls.key"])
async def test_what_is_broken_is_made_anew(plane: ScriptedPlane, member: str) -> None:
    """A Secret that somebody spoilt is mended, whichever part."""
    await OwnCertificates(plane, NAMES, lambda: NOW).current()
    data = plane.secrets[SECRET].data
    assert isinstance(data, dict)
    data[member] = b"spoilt"
    found = await OwnCertificates(plane, NAMES, lambda: NOW + (DAYS - 20) * DAY).current()
    leaf = x509.load_pem_x509_certificate(found.chain)
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate(found.authority))


async def test_files_are_read_anew(tmp_path: Path) -> None:
    """What others put there counts; a file that is missing is named."""
    chain, key = tmp_path / "tls.crt", tmp_path / "tls.key"
    files = CertificateFiles(chain, key)
    with pytest.raises(Invalid, match=r"tls\.crt"):
        await files.current()
    chain.write_bytes(b"one")
    key.write_bytes(b"key")
    assert (await files.current()).chain == b"one"
    chain.write_bytes(b"two")
    assert (await files.current()).chain == b"two"
