"""`sentinel decide`: decisions offline, JSON lines in, JSON lines out.

The same core decides as in the sidecar; docs/commands.md lists the members.
"""

import base64
import binascii
import json
import sys
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import click
import jiter
import orjson

from backend.cli.console import FAILED, json_option
from extauthz.core.compile import compile_document, load_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision, PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.explain import explain, told
from extauthz.core.fields import Fields
from extauthz.core.request import NOBODY, Call, Identity, Kind, Request
from extauthz.core.strictjson import Doubtful, parse
from extauthz.core.times import parse_instant

POLICIES_KEPT = 128  # compiled; lines that repeat one of them cost no compilation
NO_POLICY = Snapshot.unavailable(PolicyFacts(), "no policy; send `policy` or use --policy FILE")

_REQUEST = frozenset({"human_id", "agent_id", "team_id", "session_id", "method", "tool"})
_HTTP = frozenset({"method", "path", "headers", "body_base64", "peer"})


@dataclass(frozen=True, slots=True)
class Asked:
    """What a line asks: an HTTP request to be read, or one already read."""

    http: Request | None = None
    call: Call | None = None
    identity: Identity = NOBODY
    peer: str | None = None

    def decide(self, snapshot: Snapshot, now: float) -> Decision:
        if self.http is not None:
            return snapshot.decide(self.http, now)
        assert self.call is not None  # one of the two is set
        return snapshot.decide_call(self.call, self.identity, self.peer, now)


@click.command()
@click.option(
    "--policy",
    "policy_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Policy document for lines that bring none.",
)
@json_option
def decide(*, policy_file: Path | None, as_json: bool) -> None:
    """Decide JSON lines from standard input, one answer a line, in the same order.

    A line: {"policy": {document}, "now": RFC 3339, "id": any} with
    "request": {"human_id", "agent_id", "team_id", "session_id", "method", "tool"} or
    "http": {"method", "path", "headers": [[name, value], ...], "body_base64"} and, if you
    like, "peer": IP address. Blank lines are skipped. The output is JSON in any case.

    Exit code 1 says that a line could not be read; its answer is {"error": ...}.
    """
    del as_json  # there is nothing else to print
    fallback = _compiled(policy_file.read_bytes()) if policy_file else NO_POLICY
    failed = False
    out = sys.stdout.buffer
    for line in sys.stdin.buffer:
        if not line.strip():
            continue
        answered, is_error = answer(line, fallback, time.time())
        failed |= is_error
        out.write(answered + b"\n")
        out.flush()
    if failed:
        raise SystemExit(FAILED)


def answer(line: bytes, fallback: Snapshot, clock: float) -> tuple[bytes, bool]:
    """Decide one line.

    Args:
        line: JSON.
        fallback: decides where the line brings no policy.
        clock: the time where the line has no `now`, seconds since the epoch.

    Returns:
        The answer as JSON, and whether it is an error.
    """
    members: dict[str, Any] = {}
    try:
        members = read_line(line)
        asked = read_asked(members)
        now = _instant(members, clock)
    except Doubtful as refused:
        return _error(_id_of(line), Invalid("", refused.detail, "send one JSON object a line"))
    except Invalid as error:
        return _error({"id": members["id"]} if "id" in members else {}, error)
    snapshot = _snapshot(members["policy"]) if "policy" in members else fallback
    decision = asked.decide(snapshot, now)
    answered = {"id": members["id"]} if "id" in members else {}
    answered |= told(decision, explain(snapshot.policy, decision, now))
    if snapshot.policy is None:
        answered["fault"] = snapshot.fault
    return orjson.dumps(answered, default=str), False


def read_line(line: bytes) -> dict[str, Any]:
    """Parse one line. A policy in it is read strictly later, once for all lines that repeat it.

    Raises:
        Doubtful: it is not one JSON document.
        Invalid: it is not an object.
    """
    try:
        value = jiter.from_json(
            line, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys"
        )
    except ValueError:
        value = parse(line)  # says what is wrong
    if not isinstance(value, dict):
        raise Invalid("", "must be a JSON object", "write one object a line")
    return value


def read_asked(members: dict[str, Any]) -> Asked:
    """Read what a line asks.

    Raises:
        Invalid: naming the member and the mend.
    """
    if ("request" in members) == ("http" in members):
        raise Invalid("", "needs either `request` or `http`", "send one of the two")
    peer = _text(members, "peer", "") if members.get("peer") is not None else None
    if "http" in members:
        return Asked(http=_http(members["http"], peer))
    Fields(members["request"], "request").only(_REQUEST)
    request = members["request"]
    known = {name: _text(request, name, "request.") for name in _REQUEST}
    if not known["method"]:
        raise Invalid("request.method", "is required", "set it, such as to tools/call")
    notification = known["method"].startswith("notifications/")
    call = Call(
        kind=Kind.NOTIFICATION if notification else Kind.REQUEST,
        method=known.pop("method"),
        tool=known.pop("tool"),
    )
    return Asked(call=call, identity=Identity(**known), peer=peer)


def _http(value: object, peer: str | None) -> Request:
    Fields(value, "http").only(_HTTP)
    assert isinstance(value, dict)  # Fields has seen to it
    inner = _text(value, "peer", "http.")
    return Request(
        method=_text(value, "method", "http.") or "POST",
        path=_text(value, "path", "http.") or "/",
        headers=_headers(value.get("headers")),
        body=_body(_text(value, "body_base64", "http.")),
        peer=peer or inner,
    )


def _headers(value: object) -> tuple[tuple[str, bytes], ...]:
    mend = "write [[name, value], ...]"
    if value is None:
        return ()
    if not isinstance(value, list):
        raise Invalid("http.headers", "must be a list of pairs", mend)
    found = []
    for i, pair in enumerate(value):
        match pair:
            case [str() as name, str() as text]:
                found.append((name.lower(), text.encode("utf-8")))
            case _:
                raise Invalid(f"http.headers[{i}]", "must be a pair of strings", mend)
    return tuple(found)


def _body(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Invalid("http.body_base64", f"is not base64 ({error})", "encode the body") from None


def _text(members: dict[str, Any], name: str, where: str) -> str:
    value = members.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Invalid(where + name, "must be a string", "quote it")
    return value


def _instant(members: dict[str, Any], clock: float) -> float:
    text = _text(members, "now", "")
    return parse_instant(text, "now") if text else clock


def _snapshot(policy: object) -> Snapshot:
    if policy is None:
        return NO_POLICY
    try:
        return _compiled(orjson.dumps(policy))
    except TypeError as error:  # an integer that no 64 bits hold
        return Snapshot.unavailable(PolicyFacts(), f"$: {error}")


@lru_cache(maxsize=POLICIES_KEPT)
def _compiled(raw: bytes) -> Snapshot:
    try:
        return Snapshot.of(compile_document(load_document(raw)))
    except Invalid as error:
        return Snapshot.unavailable(PolicyFacts(), str(error))


def _error(head: dict[str, Any], error: Invalid) -> tuple[bytes, bool]:
    why = {"field": error.field, "problem": error.problem, "mend": error.mend}
    return json.dumps(head | {"error": why}).encode(), True


def _id_of(line: bytes) -> dict[str, Any]:
    """The id of a line that the strict reader refuses, where a lenient one finds it."""
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return {"id": value["id"]} if isinstance(value, dict) and "id" in value else {}
