"""What an edit makes of a file of the access directory. Pure."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from backend.adapters.yaml_text import changed_text, cut_text
from extauthz.core.documents import read_documents
from extauthz.core.errors import Invalid
from extauthz.core.governance import Key
from extauthz.core.manifests import Manifest, Placed, read_manifest
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, Resource
from extauthz.core.writing import to_object

_FILE_NAMES: Final = {"MCPAccessGrant": "grant", "MCPAgentSession": "session"}
_READ: Final = frozenset({
    "serverRef", "subject", "maxTrust", "consentedTrust", "toolRules", "allowedSideEffects",
    "policyVersion", "disabled", "revoked", "expiresAt",
})  # fmt: skip
_BOM: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class File:
    """A file that holds the object, as it was read."""

    path: Path
    raw: bytes
    manifest: Manifest


def key_of(resource: Resource) -> Key:
    """What names it."""
    return Key(type(resource).__name__, resource.namespace, resource.name)


def names(key: Key) -> Iterator[str]:
    """File names for a new object, the one that a person would choose first."""
    kind, name = _FILE_NAMES[key.kind], key.name[:120]
    yield f"{kind}-{name}.yaml"
    longer = f"{kind}-{key.namespace[:60]}-{name}"
    yield f"{longer}.yaml"
    for number in itertools.count(2):
        yield f"{longer}-{number}.yaml"


def edited(
    file: File,
    key: Key,
    old: MCPAccessGrant | MCPAgentSession | None,
    new: MCPAccessGrant | MCPAgentSession | None,
) -> bytes:
    """The file with one object changed or cut out; empty where none is left.

    Raises:
        Invalid: it holds what cannot be changed without damage.
    """
    assert old is not None  # for it stands there
    text = file.raw.decode("utf-8-sig")
    try:
        if new is None:
            text = cut_text(text, key)
        else:
            text = changed_text(text, key, to_object(old), to_object(new))
    except Invalid as error:
        raise Invalid(str(file.path), error.problem, error.mend) from error
    bom = _BOM if text and file.raw.startswith(_BOM) else b""
    return bom + text.encode()


def checked(raw: bytes, key: Key, new: Resource | None, file: File | None, place: str) -> Manifest:
    """Read what is to be written, before it is.

    Args:
        file: what stood there; None of a new one.
        place: for the error.

    Raises:
        Invalid: the file is not what it should be.
    """
    manifest = read_manifest(raw, place)
    found = [placed for placed in manifest.objects if key_of(placed.resource) == key]
    before = [p for p in file.manifest.objects if key_of(p.resource) == key] if file else []
    is_whole = [placed.resource for placed in found] == ([] if new is None else [new])
    is_whole = is_whole and not manifest.faults
    if file and is_whole:
        is_whole = _others(raw, found) == _others(file.raw, before) and (
            not found or _unread(found[0]) == _unread(before[0])
        )
    if not is_whole:
        problem = "cannot be changed without damage to what stands around it"
        raise Invalid(place, problem, "edit it by hand")
    return manifest


def _others(raw: bytes, but: Sequence[Placed]) -> list[object]:
    """What else stands in a file."""
    values = [document.value for document in read_documents(raw)]
    for placed in but:
        values.remove(placed.document.value)
    return values


def _unread(placed: Placed) -> dict[str, object]:
    """The members that Sentinel does not read, which an edit leaves alone."""
    value = dict(placed.document.value)
    spec = value.pop("spec", None) or {}
    return value | {f"spec.{name}": spec[name] for name in spec.keys() - _READ}
