"""Parameters of the routes of grants and sessions."""

import re
from dataclasses import replace
from datetime import datetime
from typing import Final

from backend.api.parameters import Parameter, Place, count, text, whole_number
from backend.api.refusals import bad_parameter

MOST: Final = 10_000
MOST_CHARACTERS: Final = 253  # of a name in Kubernetes; nothing has a longer one
_ETAG: Final = re.compile(r'"([\x21\x23-\x7e]{1,256})"')


def _whole(given: str, _now: datetime) -> str:
    return given


def _path(name: str, help: str) -> Parameter[str]:
    schema = {"type": "string", "maxLength": MOST_CHARACTERS}
    return Parameter(name, _whole, schema, help, "", place=Place.PATH)


def _after(given: str, _now: datetime) -> tuple[str, str]:
    namespace, slash, name = given.partition("/")
    if not (namespace and slash and name):
        problem = f"`{given[:64]}` is not `namespace/name`"
        raise bad_parameter("after", problem, "take `next` as it came, or begin without it")
    return namespace, name


def _flag(given: str, _now: datetime) -> bool:
    if given not in ("true", "false"):
        raise bad_parameter("dryRun", f"unknown value `{given[:64]}`", "use true or false")
    return given == "true"


def _version(given: str, _now: datetime) -> str:
    """Of an entity tag; a weak one never matches (RFC 9110, section 13.1.1)."""
    found = _ETAG.fullmatch(given)
    if found is None:
        problem = f"`{given[:64]}` is not one strong entity tag"
        raise bad_parameter("If-Match", problem, "send `ETag` as it came, quotes and all")
    return found[1]


def _anew(given: str, _now: datetime) -> bool:
    if given != "*":
        mend = "send `*` to replace nothing, or leave it out"
        raise bad_parameter("If-None-Match", f"`{given[:64]}` means nothing here", mend)
    return True


NAMESPACE: Final = text("namespace", "Namespace of the objects; all where it is not given.")
SERVER: Final = text("server", "Name of the MCP server that it is about.")
HUMAN: Final = text("human_id", "Human that its subject names.")
AGENT: Final = text("agent_id", "Agent that its subject names.")
LIMIT: Final = replace(
    count("limit", 0, MOST, "How many at most; all where it is not given."),
    schema=whole_number(MOST),
)
AFTER: Final[Parameter[tuple[str, str]]] = Parameter(
    "after", _after, {"type": "string"}, "`next` of the list before.", ("", "")
)
PATH_NAMESPACE: Final = _path("namespace", "Namespace of the object.")
NAME: Final = _path("name", "Name of the object.")
DRY_RUN: Final[Parameter[bool]] = Parameter(
    "dryRun",
    _flag,
    {"type": "string", "enum": ["true", "false"]},
    "`true`: change nothing, and tell which calls of the last 24 h would be decided differently.",
    False,
    may_be_blank=False,
)
IF_MATCH: Final[Parameter[str]] = Parameter(
    "If-Match",
    _version,
    {"type": "string"},
    "`ETag` of the object that is to be changed; 412 where it is another one by now.",
    "",
    place=Place.HEADER,
    may_be_blank=False,
)
IF_NONE_MATCH: Final[Parameter[bool]] = Parameter(
    "If-None-Match",
    _anew,
    {"type": "string", "enum": ["*"]},
    "`*`: make it, replace nothing; 412 where it is there already.",
    False,
    place=Place.HEADER,
    may_be_blank=False,
)
