"""`/events`, `/events/filter`, `/events/<id>`: the audit trail, a page at a time or whole."""

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from http import HTTPStatus
from itertools import chain, islice
from threading import Lock
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
from backend.api.routes import Answer, Call, Group, get
from backend.ports.event_store import EventStore
from backend.queries import ExportForm
from extauthz.core.errors import Busy, NotFound
from extauthz.core.times import format_instant

DEFAULT_LIMIT: Final = 100
MOST: Final = 1000
MOST_EXPORTS: Final = 3  # at once: fewer than there are threads, so that queries go on
MOST_OF_ONE: Final = 2  # of one principal, so that nobody's readers hold up all of them

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
PIECE: Final = 1 << 18  # bytes that are sent at once; the server would put a whole chunk on disk
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
    exports = _Exports()

    def listed(call: Call[None]) -> Response:
        asked = event_filter(call.given, call.caller)
        form = asked_form(call.given)
        if form is not None:
            return _exported(store.export(asked, form), form, exports.begin(call.caller.name))
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
        within, missing = reach(call.caller), f"event `{event_id[:64]}` does not exist"
        try:
            known = str(UUID(event_id))
        except ValueError:
            raise NotFound(f"{missing}; ids are UUIDs") from None
        found = [shown(event) for event in store.by_id(known, within)]
        if not found:
            raise NotFound(f"{missing}; it takes two seconds to be there")
        return json_response(EventAnswer(found[0], found[1:]))

    parameters: tuple[Parameter[Any], ...] = (*FILTERS, LIMIT, CURSOR, FORMAT)
    page = Answer(EventPage, {MEDIA_TYPES[form]: {"type": "string"} for form in ExportForm})
    lists = [
        get(path, listed, summary, page, *parameters)
        for path, summary in (
            ("/events", "The newest events, newest first."),
            ("/events/filter", "The same; the path that existing tools filter by."),
        )
    ]
    missing = (HTTPStatus.NOT_FOUND,)
    single = get(
        "/events/<event_id>", one, "One event.", Answer(EventAnswer), EVENT_ID, problems=missing
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


class _Exports:
    """The exports that run."""

    def __init__(self) -> None:
        self._running: Counter[str] = Counter()
        self._lock = Lock()

    def begin(self, principal: str) -> Callable[[], None]:
        """Returns: what ends it. Raises: Busy."""
        with self._lock:
            if self._running[principal] >= MOST_OF_ONE or self._running.total() >= MOST_EXPORTS:
                problem = f"{MOST_EXPORTS} exports are running, or {MOST_OF_ONE} of yours"
                raise Busy(f"{problem}; try again when one has ended")
            self._running[principal] += 1

        def end() -> None:
            with self._lock:
                self._running[principal] -= 1
                self._running += Counter()  # without those that are none

        return end


def _exported(chunks: Iterator[bytes], form: ExportForm, end: Callable[[], None]) -> Response:
    """A stream in constant memory: a chunk is fetched when the one before it was taken."""
    with ExitStack() as opened:
        opened.callback(end)
        opened.callback(getattr(chunks, "close", lambda: None))  # it ends the store's query
        # What is wrong is told before the answer begins; the first line may be a header alone.
        first = list(islice(chunks, 2))
        until_it_ends = opened.pop_all()

    def streamed() -> Iterator[bytes]:
        with until_it_ends:
            for chunk in chain(first, chunks):
                for begin in range(0, len(chunk), PIECE):
                    yield chunk[begin : begin + PIECE]

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
