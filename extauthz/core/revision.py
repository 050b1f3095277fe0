"""Digests that name a policy document."""

import hashlib
import json
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from extauthz.core.canonical import canonical, digest

_DIGEST_BYTES = 32
_OUTSIDE = frozenset({"revision", "content_digest", "generated_at", "grants", "sessions"})


def object_digest(kind: str, value: Mapping[str, Any]) -> bytes:
    """The digest of one grant or session as rendered; `kind` keeps the two apart."""
    return body_digest(kind, canonical(value))


def body_digest(kind: str, body: bytes) -> bytes:
    """The same of one that is canonical JSON already."""
    return hashlib.sha256(kind.encode() + b"\0" + body).digest()


def content_digest(document: Mapping[str, Any]) -> str:
    """The policy revision: over the digests of all objects, sorted, and the rest.

    One changed object costs one new digest, not all (`combine`).
    """
    objects = [object_digest("grant", grant) for grant in document.get("grants") or ()]
    objects += [object_digest("session", session) for session in document.get("sessions") or ()]
    return combine(objects, document)


def combine(objects: Iterable[bytes], document: Mapping[str, Any]) -> str:
    """The policy revision from object digests and the members beside them."""
    return combine_sorted(b"".join(sorted(objects)), document)


def combine_sorted(objects: bytes | bytearray, document: Mapping[str, Any]) -> str:
    """The same of object digests that are sorted and joined."""
    return digest(objects, head_digest(document))


def head_digest(document: Mapping[str, Any]) -> bytes:
    """The digest of the members beside grants and sessions."""
    rest = {name: value for name, value in document.items() if name not in _OUTSIDE}
    return hashlib.sha256(canonical(rest)).digest()


class SortedDigests(Sequence[bytes]):
    """Object digests in order, joined: a hundred thousand are hashed in a millisecond or two."""

    def __init__(self, digests: Iterable[bytes] = ()) -> None:
        self.joined = bytearray(b"".join(sorted(digests)))

    def __len__(self) -> int:
        return len(self.joined) // _DIGEST_BYTES

    def __getitem__(self, index: Any) -> Any:
        return bytes(self.joined[index * _DIGEST_BYTES : (index + 1) * _DIGEST_BYTES])

    def add(self, digest: bytes) -> None:
        place = bisect_left(self, digest) * _DIGEST_BYTES
        self.joined[place:place] = digest

    def remove(self, digest: bytes) -> None:
        """One that is there."""
        place = bisect_left(self, digest) * _DIGEST_BYTES
        del self.joined[place : place + _DIGEST_BYTES]


# mcp-runtime's members, in the order in which its Go structs declare them.
_SERVER = ("name", "namespace", "team_id", "cluster")
_AUTH = (
    "mode", "human_id_header", "agent_id_header", "team_id_header", "session_id_header",
    "token_header", "issuer_url", "audience", "trust_domain",
)  # fmt: skip
_POLICY = ("mode", "default_decision", "enforce_on", "policy_version")
_SESSION = (
    "required", "store", "header_name", "max_lifetime", "idle_timeout", "upstream_token_header",
)  # fmt: skip
_TOOL = ("name", "description", "required_trust", "side_effect", "risk_level", "labels")
_GRANT = (
    "name", "namespace", "human_id", "agent_id", "team_id", "max_trust", "allowed_side_effects",
    "policy_version", "disabled", "tool_rules",
)  # fmt: skip
_RULE = ("name", "decision", "required_trust")
_BINDING = (
    "name", "namespace", "human_id", "agent_id", "team_id", "consented_trust", "revoked",
    "expires_at", "policy_version", "upstream_token_ref",
)  # fmt: skip


def compatible_revision(document: Mapping[str, Any]) -> str:
    """mcp-runtime's own `revision`, so that its gateway reads our documents."""
    ordered: dict[str, Any] = {"schema_version": document.get("schema_version", ""), "revision": ""}
    ordered["server"] = _pick(document["server"], _SERVER, ("name", "namespace"))
    for name, members in (("auth", _AUTH), ("policy", _POLICY), ("session", _SESSION)):
        if document.get(name) is not None:
            ordered[name] = _pick(document[name], members)
    lists = {
        "tools": [_tool(tool) for tool in document.get("tools") or ()],
        "grants": [_grant(grant) for grant in document.get("grants") or ()],
        "sessions": [_pick(item, _BINDING, ("name",)) for item in document.get("sessions") or ()],
    }
    ordered |= {name: items for name, items in lists.items() if items}
    return digest(_as_go_writes(ordered))


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    picked = _pick(tool, _TOOL, ("name",))
    if "labels" in picked:
        picked["labels"] = dict(sorted(picked["labels"].items()))
    return picked


def _grant(grant: Mapping[str, Any]) -> dict[str, Any]:
    picked = _pick(grant, _GRANT, ("name",))
    if "tool_rules" in picked:
        picked["tool_rules"] = [_pick(rule, _RULE, ("name",)) for rule in picked["tool_rules"]]
    return picked


def _pick(
    value: Mapping[str, Any], members: tuple[str, ...], always: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Known members in order; empty and false ones only where Go writes them always."""
    found = {name: value.get(name, "" if name in always else None) for name in members}
    return {name: item for name, item in found.items() if item or name in always}


def _as_go_writes(value: object) -> bytes:
    """Compact JSON as encoding/json writes it: HTML characters and U+2028/9 escaped."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text.encode()
