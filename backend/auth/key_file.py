"""API_KEYS_FILE: named keys with scopes and namespaces, as YAML or JSON; hashes alone.

keys:
  - name: sidecar-billing        # shows in the audit as `producer`
    scopes: [ingest]             # ingest, read, govern, operate
    namespaces: [team-a]         # or ["*"], for all
    servers: [team-a/billing]    # optional: the only servers whose events it may send
    sha256: [6f1e…, 90ab…]       # one, or several while a key is being replaced
    component: api               # optional: api or controller, for `governance.*` events
"""

import re
from collections.abc import Sequence
from typing import Any, Final

from backend.auth.api_keys import LISTED_PREFIX, ApiKey
from backend.auth.principal import Component, Origins, Principal, Scope
from extauthz.core.documents import Document, Unreadable, read_documents
from extauthz.core.errors import Invalid
from extauthz.core.fields import Fields

SETTING: Final = "API_KEYS_FILE"
EVERYWHERE: Final = "*"
_MAKE_ONE: Final = "make the entry with `sentinel keys new`"
_TOP: Final = frozenset({"keys"})
_ENTRY: Final = frozenset({"name", "scopes", "namespaces", "servers", "sha256", "component"})
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_LABEL: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")  # a namespace
_SERVER: Final = re.compile(
    rf"(?P<namespace>{_LABEL.pattern})/(?P<name>[a-z0-9][a-z0-9.-]{{0,252}})"
)
_SHA256: Final = re.compile(r"[0-9a-fA-F]{64}")


def read_keys(raw: bytes, path: str) -> list[ApiKey]:
    """The keys of a file, each entry's under its principal.

    Args:
        path: for errors.

    Raises:
        Invalid: naming file, line, entry and field, and the mend.
    """
    try:
        documents = list(read_documents(raw))
    except Unreadable as error:
        raise _at(path, error.line, "", error) from None
    if len(documents) != 1:
        raise Invalid(SETTING, f"`{path}` must hold one document", _MAKE_ONE)
    (document,) = documents
    keys: list[ApiKey] = []
    try:
        entries = Fields(document.value).only(_TOP).objects("keys")
        if not entries:
            raise Invalid("keys", "holds no entry", _MAKE_ONE)
        for index, entry in enumerate(entries):
            keys += _read(entry, document.value["keys"][index], keys)
    except Invalid as error:
        raise _at(path, document.line_of(error.field), _name_at(document, error), error) from None
    return keys


def bounds(
    namespaces: Sequence[str], servers: Sequence[str], where: str
) -> tuple[frozenset[str] | None, Origins | None]:
    """Where scopes reach, and whose events may be sent; None each for everywhere.

    Args:
        namespaces: names, or `*` alone.
        servers: `namespace/name`; each in one of the namespaces.
        where: prefix for field names.

    Raises:
        Invalid: naming the field.
    """
    everywhere = EVERYWHERE in namespaces
    if everywhere and len(namespaces) > 1:
        raise Invalid(f"{where}namespaces", "names `*` and others", "keep `*` alone, or the others")
    for index, name in enumerate(() if everywhere else namespaces):
        if not _LABEL.fullmatch(name):
            mend = "write a Kubernetes namespace, or `*` for all"
            raise Invalid(f"{where}namespaces[{index}]", f"`{name}` is no namespace", mend)
    reach = None if everywhere else frozenset(namespaces)
    pairs: set[tuple[str, str]] = set()
    for index, server in enumerate(servers):
        found = _SERVER.fullmatch(server)
        at = f"{where}servers[{index}]"
        if not found:
            raise Invalid(at, f"`{server}` names no server", "write it like team-a/billing")
        if reach is not None and found["namespace"] not in reach:
            mend = f"add `{found['namespace']}` to namespaces"
            raise Invalid(at, f"`{server}` lies in none of its namespaces", mend)
        pairs.add((found["namespace"], found["name"]))
    if reach is None and not pairs:
        return None, None
    return reach, Origins(reach or frozenset(), frozenset(pairs))


def _read(entry: Fields, value: Any, before: Sequence[ApiKey]) -> list[ApiKey]:
    entry.only(_ENTRY)
    name = entry.required_text("name")
    if not _NAME.fullmatch(name) or name.startswith(LISTED_PREFIX):
        mend = f"use lower-case letters, digits, `.`, `_`, `-`; not `{LISTED_PREFIX}…`"
        raise Invalid(entry.at("name"), f"`{name}` is no name for a key", mend)
    if any(key.principal.name == name for key in before):
        mend = "list the digests of one name together, in `sha256`"
        raise Invalid(entry.at("name"), f"`{name}` stands twice", mend)
    scopes = entry.texts("scopes", tuple(Scope))
    namespaces = entry.texts("namespaces")
    for field, listed in (("scopes", scopes), ("namespaces", namespaces)):
        if not listed:
            raise Invalid(entry.at(field), "is required", f"list its {field}")
    component = entry.choice("component", tuple(Component))
    for field, given in (("servers", entry.has("servers")), ("component", bool(component))):
        if given and Scope.INGEST not in scopes:
            raise Invalid(entry.at(field), "needs the scope `ingest`", "add it to scopes")
    reach, origins = bounds(namespaces, entry.texts("servers"), f"{entry.path}.")
    principal = Principal(
        name,
        frozenset(map(Scope, scopes)),
        reach,
        origins,
        Component(component) if component else None,
    )
    return [ApiKey(digest, principal) for digest in _digests(entry, value.get("sha256"))]


def _digests(entry: Fields, value: Any) -> list[bytes]:
    """Of one or several; what is no digest may be a key, and is not repeated."""
    at = entry.at("sha256")
    listed = value if isinstance(value, list) else [value]
    if not value or any(
        not isinstance(each, str) or not _SHA256.fullmatch(each) for each in listed
    ):
        raise Invalid(at, "is not the SHA-256 of a key, 64 hexadecimal digits", _MAKE_ONE)
    digests = [bytes.fromhex(each) for each in listed]
    if len(set(digests)) < len(digests):
        raise Invalid(at, "names one key twice", "remove one")
    return digests


def _name_at(document: Document, error: Invalid) -> str:
    """The name of the entry at fault, as far as it has one."""
    index = re.match(r"keys\[([0-9]+)\]", error.field)
    try:
        name = document.value["keys"][int(index[1])]["name"] if index else ""
    except (KeyError, TypeError):
        return ""
    return name if isinstance(name, str) else ""


def _at(path: str, line: int, name: str, error: Invalid) -> Invalid:
    place = f"`{path}`" + (f" line {line}" if line else "")
    entry = f" (`{name}`)" if name else ""
    field = f", {error.field}{entry}" if error.field else ""
    return Invalid(SETTING, f"{place}{field}: {error.problem}", error.mend)
