"""`/dlq`: records that could never be stored, to look at, to try again, and to drop."""

import base64
import logging
from typing import Any, Final
from uuid import UUID

from flask import Blueprint, Response, g, request

from backend.api import parameters
from backend.api.answers import json_response
from backend.api.letters import DeadLetters
from backend.auth.principal import Principal, Scope
from backend.ports import Position, SetAside
from extauthz.core.errors import Invalid, NotFound
from extauthz.core.times import format_instant

DEFAULT_LIMIT: Final = 100
MOST: Final = 1000
_LIST_PARAMETERS: Final = frozenset({"limit", "after"})
_NO_PARAMETERS: Final[frozenset[str]] = frozenset()

_log = logging.getLogger(__name__)


def dlq_blueprint(letters: DeadLetters | None) -> Blueprint:
    """Reading needs the scope `read`, changing `operate`, both for all namespaces.

    Args:
        letters: None where this process was told of no event log.
    """
    blueprint = Blueprint("dlq", __name__)

    def allowed(scope: Scope, known: frozenset[str] = _NO_PARAMETERS) -> DeadLetters:
        principal: Principal = g.principal
        principal.require_everywhere(scope)
        parameters.only(request.args, known)
        if letters is None:
            raise NotFound("this api knows of no event log; set EVENT_LOG_URL where it runs")
        return letters

    @blueprint.get("/dlq")
    def listed() -> Response:
        known = allowed(Scope.READ, _LIST_PARAMETERS)
        limit = parameters.count(request.args, "limit", DEFAULT_LIMIT, MOST)
        after = request.args.get("after", "")
        found = known.oldest(limit + 1, read_id(after, "after") if after else None)
        shown = [summary(each) for each in found[:limit]]
        more = shown[-1]["id"] if len(found) > limit else ""
        return json_response({"dead_letters": shown, "next": more})

    @blueprint.get("/dlq/<letter_id>")
    def shown(letter_id: str) -> Response:
        return json_response(
            {"dead_letter": whole(allowed(Scope.READ).at(read_id(letter_id, "id")))}
        )

    @blueprint.post("/dlq/<letter_id>/retry")
    def retried(letter_id: str) -> Response:
        allowed(Scope.OPERATE).retry(read_id(letter_id, "id"))
        return _done("dead letter sent again", letter_id)

    @blueprint.delete("/dlq/<letter_id>")
    def dropped(letter_id: str) -> Response:
        allowed(Scope.OPERATE).drop(read_id(letter_id, "id"))
        return _done("dead letter dropped", letter_id)

    return blueprint


def read_id(text: str, field: str) -> Position:
    """The position that an id names.

    Raises:
        Invalid: naming `field`.
    """
    parts = text.split(":")
    try:
        topic, partition, offset = parts
        if not (partition.isascii() and partition.isdigit() and len(partition) < 10):
            raise ValueError
        if not (offset.isascii() and offset.isdigit() and len(offset) < 19):
            raise ValueError
        return Position(UUID(topic), int(partition), int(offset))
    except ValueError:
        mend = "write it as `sentinel dlq list` shows it"
        raise Invalid(field, f"`{text[:120]}` is no dead letter's id", mend) from None


def written_id(position: Position) -> str:
    """What names a dead letter: `<topic id>:<partition>:<offset>`."""
    return f"{position.topic_id}:{position.partition}:{position.offset}"


def summary(found: SetAside) -> dict[str, Any]:
    """One dead letter as JSON members, without its content."""
    position = found.letter.record.position
    return {
        "id": written_id(position),
        "set_aside_at": format_instant(found.at.timestamp()),
        "reason": found.letter.why,
        "partition": position.partition,
        "offset": position.offset,
        "bytes": len(found.letter.record.value),
    }


def whole(found: SetAside) -> dict[str, Any]:
    """The same with headers and the original bytes: as text, or in base64 where they are none."""
    record = found.letter.record
    members = summary(found)
    members["headers"] = [[name, value.decode("latin-1")] for name, value in record.headers]
    try:
        members["value"] = record.value.decode()
    except UnicodeDecodeError:
        members["value_base64"] = base64.b64encode(record.value).decode()
    return members


def _done(what: str, letter_id: str) -> Response:
    principal: Principal = g.principal
    _log.warning(what, extra={"dead_letter": letter_id, "principal": principal.name})
    return json_response({"success": True, "id": letter_id})
