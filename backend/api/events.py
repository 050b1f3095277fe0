"""`/events`, `/events/filter`, `/events/<id>`: the audit trail, a page at a time or whole."""

from collections.abc import Iterator
from contextlib import ExitStack
from http import HTTPStatus
from itertools import islice
from threading import BoundedSemaphore
from typing import Any, Final
from urllib.parse import urlencode
from uuid import UUID

from flask import Response, request

from backend.api import cursors
from backend.api.answers import JSON, json_response
from backend.api.cursors import CURSOR
from backend.api.event_view import EventAnswer, EventPage, Meta, shown
from backend.api.filters import FILTERS, SINCE, UNTIL, event_filter, reach
from backend.api.parameters import Given, Parameter, Place, choice, clamped
from backend.api.refusals import bad_parameter
from backend.api.routes import READ, Answer, Call, Group, Route
from backend.ports.event_store import EventStore
from backend.queries import EventFilter, ExportForm
from extauthz.core.errors import Busy, NotFound
from extauthz.core.times import format_instant

DEFAULT_LIMIT: Final = 100
MOST: Final = 1000
MOST_EXPORTS: Final = 3  # at once: fewer than there are threads, so that queries go on

LIMIT: Final = clamped("limit", DEFAULT_LIMIT, MOST, "How many events a page holds at most")
FORMAT: Final = choice(
    "format",
    ("json", *ExportForm),
    "`ndjson` or `csv`: all events that match, as a stream. Else `Accept` says it.",
)
EVENT_ID: Final = Parameter(
    "event_id",
    lambda given, _now: given,
    {"type": "string", "format": "uuid"},
    "Id of the event; `decision_id` of a denial is one.",
    "",
    place=Place.PATH,
)
MEDIA_TYPES: Final = {
    ExportForm.NDJSON: "application/x-ndjson",
    ExportForm.CSV: "text/csv",
}
_ACCEPTED: Final = {
    JSON: None,
    "application/x-ndjson": ExportForm.NDJSON,
    "application/ndjson": ExportForm.NDJSON,
    "text/csv": ExportForm.CSV,
}


def events_group(store: EventStore) -> Group:
    """Reads events; the scope `read`, limited to the caller's namespaces."""
    exports = BoundedSemaphore(MOST_EXPORTS)

    def listed(call: Call[None]) -> Response:
        asked = event_filter(call.given, call.caller)
        form = asked_form(call.given)
        if form is not None:
            return _exported(store, asked, form, exports)
        limit = call.given[LIMIT]
        page = store.page(asked, limit, call.given[CURSOR])
        cursor = cursors.written(page.next) if page.next else ""
        answer = EventPage(
            events=[shown(event) for event in page.events],
            meta=Meta(limit=limit, has_more=bool(cursor), next_cursor=cursor),
            next=_next(call.given, cursor) if cursor else "",
        )
        return json_response(answer)

    def one(call: Call[None]) -> Response:
        event_id = call.given[EVENT_ID]
        within = reach(call.caller)
        try:
            UUID(event_id)
        except ValueError:
            raise NotFound(f"event `{event_id[:64]}` does not exist; ids are UUIDs") from None
        return json_response(EventAnswer(shown(store.event(event_id, within))))

    parameters: tuple[Parameter[Any], ...] = (*FILTERS, LIMIT, CURSOR, FORMAT)
    page = Answer(EventPage, {MEDIA_TYPES[form]: {"type": "string"} for form in ExportForm})
    lists = [
        Route(
            method="GET",
            path=path,
            serve=listed,
            summary=summary,
            answer=page,
            needs=READ,
            parameters=parameters,
        )
        for path, summary in (
            ("/events", "The newest events, newest first."),
            ("/events/filter", "The same; the path that existing tools filter by."),
        )
    ]
    single = Route(
        method="GET",
        path="/events/<event_id>",
        serve=one,
        summary="One event.",
        answer=Answer(EventAnswer),
        needs=READ,
        parameters=(EVENT_ID,),
        problems=(HTTPStatus.NOT_FOUND,),
    )
    return Group("events", [*lists, single])


def asked_form(given: Given) -> ExportForm | None:
    """What `format`, else `Accept` asks for; None for a page of JSON.

    Raises:
        Refused: an export of one page: it would seem whole.
    """
    if given[FORMAT]:
        form = None if given[FORMAT] == "json" else ExportForm(given[FORMAT])
    else:
        form = _ACCEPTED[request.accept_mimetypes.best_match(_ACCEPTED, default=JSON)]
    if form is not None:
        for name in (LIMIT.name, CURSOR.name):
            if given.query.get(name, "").strip():
                mend = "leave it out, and bound the export by `since` and `until`"
                raise bad_parameter(name, "does not apply to an export, which has all", mend)
    return form


def _exported(
    store: EventStore, asked: EventFilter, form: ExportForm, exports: BoundedSemaphore
) -> Response:
    """A stream in constant memory: a chunk is fetched when the one before it was taken."""
    if not exports.acquire(blocking=False):
        raise Busy(f"{MOST_EXPORTS} exports are running; try again when one has ended")
    with ExitStack() as opened:
        opened.callback(exports.release)
        chunks = store.export(asked, form)
        opened.callback(getattr(chunks, "close", lambda: None))  # it ends the store's query
        # What is wrong is told before the answer begins; the first line may be a header alone.
        first = list(islice(chunks, 2))
        until_it_ends = opened.pop_all()

    def streamed() -> Iterator[bytes]:
        with until_it_ends:
            yield from first
            yield from chunks

    response = Response(streamed(), mimetype=MEDIA_TYPES[form])
    response.headers["Content-Disposition"] = f'attachment; filename="events.{form}"'
    response.call_on_close(until_it_ends.close)  # nobody may have asked for any of it
    return response


def _next(given: Given, cursor: str) -> str:
    """The next page's address, filters kept; times that were relative stay where they were."""
    asked = {name: value for name, value in given.query.items() if value.strip()}
    for each in (SINCE, UNTIL):
        if moment := given[each]:
            asked[each.name] = format_instant(moment.timestamp())
    asked |= {LIMIT.name: str(given[LIMIT]), CURSOR.name: cursor}
    return f"{request.path}?{urlencode(asked)}"
