"""The payload of `governance.change`: which custom resource changed, from what, to what.

From these events any past policy is rebuilt (`history`).
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

import orjson

from extauthz.core.errors import Invalid
from extauthz.core.fields import Fields
from extauthz.core.writing import Object

MAX_PAYLOAD_BYTES: Final = 900_000  # an event may have 1 MiB
KINDS: Final = ("MCPServer", "MCPAccessGrant", "MCPAgentSession")


class Key(NamedTuple):
    """What names a custom resource."""

    kind: str
    namespace: str
    name: str


class Action(StrEnum):
    """What became of the object."""

    CREATED = "created"
    CHANGED = "changed"
    DELETED = "deleted"
    CONFIRMED = "confirmed"  # nothing; told again before the store forgets the last change


@dataclass(frozen=True, slots=True)
class Change:
    """One change of one object.

    Args:
        actor: who changed it; `file` where a file was edited.
        server: name of the MCP server that it is about.
        before, after: the object, as `to_object` writes it; None where there is none.
        file: where it stands, relative to the access directory; empty elsewhere.
        modified_at: when that file was written, RFC 3339; empty where it is not known.
        left_out: `before`, or both, were too large to be told.
        actor_unknown: why nobody knows who it was; empty where it is known.
    """

    key: Key
    action: Action
    actor: str
    server: str
    before: Object | None
    after: Object | None
    file: str = ""
    modified_at: str = ""
    left_out: tuple[str, ...] = ()
    actor_unknown: str = ""


@dataclass(frozen=True, slots=True)
class Restart:
    """The payload of `governance.restart`: a component is about to be started again.

    Args:
        component: its key, such as `ingest`.
        actor: who asked for it.
        all: whether it was asked for as one of all.
    """

    component: str
    actor: str
    all: bool


def change_payload(change: Change) -> dict[str, Any]:
    """The payload of its event, bounded: what is too large is left out, and that is said."""
    told: dict[str, Any] = {
        **change.key._asdict(),
        "server": change.server,
        "action": change.action.value,
        "actor": change.actor,
        "before": change.before,
        "after": change.after,
    }
    told |= {"actor_unknown": change.actor_unknown} if change.actor_unknown else {}
    told |= {"file": change.file} if change.file else {}
    told |= {"modified_at": change.modified_at} if change.modified_at else {}
    left_out = []
    for name in ("before", "after"):
        if len(orjson.dumps(told)) > MAX_PAYLOAD_BYTES:
            told[name] = None
            left_out.append(name)
    return told | ({"left_out": left_out} if left_out else {})


def read_change(payload: str | bytes) -> Change:
    """Read a payload.

    Raises:
        Invalid: it is none.
    """
    try:
        value = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise Invalid("payload", f"is not JSON ({error.msg})") from None
    fields = Fields(value, "payload")
    return Change(
        key=Key(
            fields.choice("kind", KINDS, fields.required_text("kind")),
            fields.required_text("namespace"),
            fields.required_text("name"),
        ),
        action=Action(fields.choice("action", tuple(Action), fields.required_text("action"))),
        actor=fields.text("actor"),
        server=fields.text("server"),
        before=_object(value, "before"),
        after=_object(value, "after"),
        file=fields.text("file"),
        modified_at=fields.text("modified_at"),
        left_out=fields.texts("left_out"),
        actor_unknown=fields.text("actor_unknown"),
    )


def server_of(written: Object) -> str:
    """Name of the MCP server that an object is about."""
    if written["kind"] == "MCPServer":
        return str(written["metadata"]["name"])
    return str(written["spec"]["serverRef"]["name"])


def _object(value: dict[str, Any], name: str) -> Object | None:
    found = value.get(name)
    if found is not None and not isinstance(found, dict):
        raise Invalid(f"payload.{name}", "must be an object or null")
    return found
