"""`/dlq`: records that could never be stored, to look at, to try again, and to drop."""

import base64
import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any, Final, Literal
from uuid import UUID

import msgspec
from flask import Response
from msgspec import UNSET, UnsetType

from backend.api.answers import json_response
from backend.api.letters import DeadLetters
from backend.api.parameters import Parameter, Place, count
from backend.api.refusals import bad_parameter
from backend.api.routes import (
    OPERATE_EVERYWHERE,
    READ_EVERYWHERE,
    Answer,
    Call,
    Group,
    Route,
    get,
)
from backend.ports.event_log import POSITION_PATTERN, Position, SetAside
from extauthz.core.errors import Invalid, NotFound
from extauthz.core.times import format_instant

ID_SCHEMA: Final = {"type": "string", "pattern": POSITION_PATTERN}

MISSING: Final = (HTTPStatus.NOT_FOUND,)

_log = logging.getLogger(__name__)


class DeadLetterSummary(msgspec.Struct, frozen=True):
    """One dead letter, without its content."""

    id: str
    set_aside_at: str
    reason: str
    partition: int
    offset: int
    bytes: int


class DeadLetter(DeadLetterSummary, frozen=True):
    """The same with headers and the original bytes: as text, or in base64 where they are none."""

    headers: list[tuple[str, str]]
    value: str | UnsetType = UNSET
    value_base64: str | UnsetType = UNSET


class DeadLetterList(msgspec.Struct, frozen=True):
    """The oldest first; `next` is what to give as `after`, empty behind the last one."""

    dead_letters: list[DeadLetterSummary]
    next: str


class DeadLetterAnswer(msgspec.Struct, frozen=True):
    """One dead letter."""

    dead_letter: DeadLetter


class Done(msgspec.Struct, frozen=True):
    """What was asked for is done."""

    id: str
    success: Literal[True] = True


def read_id(text: str, field: str) -> Position:
    """The position that an id names.

    Raises:
        Refused: naming `field`.
    """
    try:
        return Position.read(text)
    except Invalid as error:
        raise bad_parameter(field, error.problem, error.mend) from None


def _after(given: str, _now: datetime) -> Position | None:
    return read_id(given, AFTER.name)


def _letter_id(given: str, _now: datetime) -> Position:
    return read_id(given, "id")


LIMIT: Final = count("limit", 100, 1000, "How many dead letters at most.")
AFTER: Final[Parameter[Position | None]] = Parameter(
    "after", _after, {"anyOf": [ID_SCHEMA, {"const": ""}]}, "`next` of the list before.", None
)
LETTER_ID: Final = Parameter(
    "letter_id",
    _letter_id,
    ID_SCHEMA,
    "Id of a dead letter.",
    Position(UUID(int=0), 0, 0),
    place=Place.PATH,
)


@dataclass(frozen=True, slots=True)
class Served:
    """What is answered about dead letters.

    Args:
        letters: None where this process was told of no event log.
    """

    letters: DeadLetters | None

    def known(self) -> DeadLetters:
        """Raises: NotFound: this process was told of no event log."""
        if self.letters is None:
            mend = "set EVENT_LOG_URL or KAFKA_BROKERS where it runs"
            raise NotFound(f"this api knows of no event log; {mend}")
        return self.letters

    def listed(self, call: Call[None]) -> Response:
        """A page of them, the oldest first."""
        limit = call.given[LIMIT]
        found = self.known().oldest(limit + 1, call.given[AFTER])
        page = [summary(each) for each in found[:limit]]
        return json_response(DeadLetterList(page, page[-1].id if len(found) > limit else ""))

    def shown(self, call: Call[None]) -> Response:
        """One, whole."""
        return json_response(DeadLetterAnswer(whole(self.known().at(call.given[LETTER_ID]))))

    def retried(self, call: Call[None]) -> Response:
        """Append its record again."""
        self.known().retry(call.given[LETTER_ID])
        return _done("sent again", call)

    def dropped(self, call: Call[None]) -> Response:
        """Remove it for good."""
        self.known().drop(call.given[LETTER_ID])
        return _done("dropped", call)


def dlq_group(letters: DeadLetters | None) -> Group:
    """Reading needs the scope `read`, changing `operate`, both for all namespaces.

    Args:
        letters: None where this process was told of no event log.
    """
    served = Served(letters)
    one = "/dlq/<letter_id>"
    return Group(
        "dlq",
        [
            get(
                "/dlq",
                served.listed,
                "Dead letters, the oldest first.",
                Answer(DeadLetterList),
                LIMIT,
                AFTER,
                needs=READ_EVERYWHERE,
                problems=MISSING,
            ),
            get(
                one,
                served.shown,
                "One dead letter, whole.",
                Answer(DeadLetterAnswer),
                LETTER_ID,
                needs=READ_EVERYWHERE,
                problems=MISSING,
            ),
            _change("POST", f"{one}/retry", served.retried, "Send it again."),
            _change("DELETE", one, served.dropped, "Drop it for good."),
        ],
    )


def _change(method: str, path: str, serve: Callable[[Call[None]], Response], said: str) -> Route:
    return Route(
        method=method,
        path=path,
        serve=serve,
        summary=said,
        answer=Answer(Done),
        needs=OPERATE_EVERYWHERE,
        parameters=(LETTER_ID,),
        problems=MISSING,
    )


def summary(found: SetAside) -> DeadLetterSummary:
    """One dead letter, without its content."""
    position = found.letter.record.position
    return DeadLetterSummary(
        id=str(position),
        set_aside_at=format_instant(found.at.timestamp()),
        reason=found.letter.why,
        partition=position.partition,
        offset=position.offset,
        bytes=len(found.letter.record.value),
    )


def whole(found: SetAside) -> DeadLetter:
    """One dead letter, with all that is known of it."""
    record = found.letter.record
    try:
        value: dict[str, Any] = {"value": record.value.decode()}
    except UnicodeDecodeError:
        value = {"value_base64": base64.b64encode(record.value).decode()}
    headers = [(name, content.decode("latin-1")) for name, content in record.headers]
    return DeadLetter(**msgspec.structs.asdict(summary(found)), headers=headers, **value)


def _done(what: str, call: Call[None]) -> Response:
    letter_id, who = str(call.given[LETTER_ID]), call.caller.name
    told = {"change": what, "dead_letter": letter_id, "principal": who}
    _log.warning("a dead letter was settled by hand", extra=told)
    return json_response(Done(letter_id))
