"""Pages of events, single ones, and counts: what the api asks of the table most."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType
from typing import Any, Final
from uuid import UUID

import orjson
from msgspec import structs

from backend.adapters.clickhouse_client import TooLarge
from backend.adapters.clickhouse_filter import Conditions, conditions, ms
from backend.adapters.clickhouse_readers import Readers
from backend.adapters.clickhouse_rows import READ, event_of, moment
from backend.ports.event_store import StoredEvent
from backend.queries import Count, CountedBy, Cursor, EventFilter, Page, Summary
from extauthz.core.events import INTERNAL_TYPES, EventType

MOST_OF_A_REQUEST: Final = 1000
MOST_OF_AN_ID: Final = 100
# Of a page, or a chunk of an export: where payloads are so large, it holds fewer events.
PAGE_BYTES: Final = 256 << 20
FEWER: Final = 8  # times, at the next try
LATEST_OUTCOME: Final = timedelta(days=1)  # after its call; a stream may last longer
AROUND_ID: Final = timedelta(seconds=5)  # between the time in an event's id and its own

# Members of an outcome that belong to its call.
OUTCOME_MEMBERS: Final = ("status", "latency_ms", "bytes_in", "bytes_out", "response_flags")
_HAS_OUTCOME: Final = '"latency_ms"'
_INTERNAL: Final = sorted(event_type.value for event_type in INTERNAL_TYPES)
_IDS: Final = ("request_id", "trace_id")

# An index tells at once where a rare type lies; for all others it is work for nothing.
ANY_TYPE: Final = {"ignore_data_skipping_indices": "event_type_set"}
_BY_ID: Final = ANY_TYPE | {"min_table_rows_to_use_projection_index": "0"}

_PAGE: Final = (
    f"{READ} FROM events WHERE {{where}}"
    " ORDER BY event_time DESC, event_id DESC LIMIT {{limit:UInt32}}"
)
# What has an id: mostly so few that they are sorted afterwards.
_FEW: Final = (
    f"SELECT * FROM ({READ}, event_time FROM events WHERE {{where}} LIMIT {{{{limit:UInt32}}}})"
    " ORDER BY event_time {order}, event_id {order}"
)
_SPAN: Final = (
    "SELECT count(), toUnixTimestamp64Milli(min(event_time)),"
    " toUnixTimestamp64Milli(max(event_time)) FROM events WHERE {where}"
)
# Of several producers' events with one id: those of gateways before those of anybody.
_OF_ID: Final = (
    f"{READ} FROM events WHERE {{where}} ORDER BY sequence = 0, event_time, log_offset"
    f" LIMIT {MOST_OF_AN_ID}"
)
_OUTCOMES: Final = (
    "SELECT producer, outcome_of, payload FROM events WHERE event_type = {type:String}"
    " AND outcome_of IN {ids:Array(String)}"
    " AND event_time >= fromUnixTimestamp64Milli({since:Int64})"
    " AND event_time < fromUnixTimestamp64Milli({until:Int64})"
)
_COUNTS: Final = "SELECT {field}, count() FROM events WHERE {where} GROUP BY {field}"
_SUMMARY: Final = (
    "SELECT sum(counted), uniqExactIf((namespace, server), server != '') FROM"
    " (SELECT namespace, server, count() AS counted FROM events WHERE {where}"
    " GROUP BY namespace, server)"
)


class EventQueries:
    """EventStore's questions about single events."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def page(self, asked: EventFilter, limit: int, after: Cursor | None = None) -> Page:
        while True:
            try:
                return self._page_of(asked, limit, after)
            except TooLarge:
                if limit == 1:
                    raise
                limit = max(1, limit // FEWER)

    def _page_of(self, asked: EventFilter, limit: int, after: Cursor | None) -> Page:
        found = conditions(asked)
        if after:
            found.after(after)
        if any(getattr(asked, name) for name in _IDS):
            few = self._few(found, limit + 1, "DESC", _of_a_page())
            if len(few) <= limit:
                return Page(self._with_outcomes(few), None)
            self._bind(found)
        events = self._page(asked, found, limit + 1)
        if len(events) <= limit:
            return Page(self._with_outcomes(events), None)
        last = events[limit - 1]
        cursor = Cursor(last.event_time, last.event_id)
        if _key(events[limit]) == _key(last):  # several producers' events: a page has all of them
            events = [e for e in events if _key(e) != _key(last)] + self._tied(asked, cursor)
        else:
            events = events[:limit]
        return Page(self._with_outcomes(events), cursor)

    def by_id(self, event_id: str, within: frozenset[str] | None = None) -> Sequence[StoredEvent]:
        try:
            known = UUID(event_id)
        except ValueError:  # nothing else is ever stored
            return []
        found = Conditions()
        found.add("event_id = {id:UUID}", id=str(known))
        found.within(within)
        rows: Sequence[Sequence[Any]] = []
        if near := _around(known):
            bounded = Conditions(list(found.parts), dict(found.given))
            bounded.times(near)
            rows = self._readers.rows(_OF_ID.format(where=bounded.sql), bounded.given, ANY_TYPE)
        if not rows:  # its producer made the id at another time, or in another way
            rows = self._readers.rows(_OF_ID.format(where=found.sql), found.given, ANY_TYPE)
        return self._with_outcomes([event_of(row) for row in rows])

    def by_request(
        self, request_id: str, within: frozenset[str] | None = None
    ) -> Sequence[StoredEvent]:
        if not request_id:
            return []
        found = conditions(EventFilter(request_id=request_id, within=within))
        found.add("event_type NOT IN {internal:Array(String)}", internal=_INTERNAL)
        few = self._few(found, MOST_OF_A_REQUEST, "ASC")
        if len(few) < MOST_OF_A_REQUEST:
            return self._with_outcomes(few)
        self._bind(found)
        sql = _PAGE.replace(" DESC", "").format(where=found.sql)
        rows = self._readers.rows(sql, found.given | {"limit": MOST_OF_A_REQUEST}, ANY_TYPE)
        return self._with_outcomes([event_of(row) for row in rows])

    def counts_by(self, field: CountedBy, within: frozenset[str] | None = None) -> Sequence[Count]:
        found = Conditions()
        found.within(within)
        rows = self._readers.rows(_COUNTS.format(field=field.value, where=found.sql), found.given)
        return [Count(value, events) for value, events in sorted(rows, key=lambda r: (-r[1], r[0]))]

    def summary(self, within: frozenset[str] | None = None) -> Summary:
        found = Conditions()
        found.within(within)
        found.add("event_type NOT IN {internal:Array(String)}", internal=_INTERNAL)
        ((events, servers),) = self._readers.rows(_SUMMARY.format(where=found.sql), found.given)
        latest = self._page(EventFilter(), found, 1)
        return Summary(int(events), int(servers), latest[0] if latest else None)

    def _few(
        self,
        found: Conditions,
        limit: int,
        order: str,
        settings: Mapping[str, str] = MappingProxyType({}),
    ) -> list[StoredEvent]:
        """All that there are, in order; as many as `limit` may not be all, nor the first ones.

        A projection finds them by the id; it cannot read in order.
        """
        sql = _FEW.format(where=found.sql, order=order)
        rows = self._readers.rows(sql, found.given | {"limit": limit}, {**_BY_ID, **settings})
        return [event_of(row[:-1]) for row in rows]

    def _bind(self, found: Conditions) -> None:
        """Bind what is asked to the time that it lies in."""
        ((rows, least, most),) = self._readers.rows(
            _SPAN.format(where=found.sql), found.given, _BY_ID
        )
        if rows:
            found.add(
                "event_time >= fromUnixTimestamp64Milli({least:Int64})"
                " AND event_time <= fromUnixTimestamp64Milli({most:Int64})",
                least=least,
                most=most,
            )

    def _page(self, asked: EventFilter, found: Conditions, limit: int) -> list[StoredEvent]:
        settings = ({} if asked.event_type else ANY_TYPE) | _of_a_page()
        sql = _PAGE.format(where=found.sql)
        rows = self._readers.rows(sql, found.given | {"limit": limit}, settings)
        return [event_of(row) for row in rows]

    def _tied(self, asked: EventFilter, at: Cursor) -> list[StoredEvent]:
        found = conditions(asked)
        found.add(
            "event_time = fromUnixTimestamp64Milli({at:Int64}) AND event_id = {id:UUID}",
            at=ms(at.event_time),
            id=at.event_id,
        )
        return self._page(asked, found, MOST_OF_A_REQUEST)

    def _with_outcomes(self, events: Sequence[StoredEvent]) -> list[StoredEvent]:
        """Calls that came apart from their outcomes, with them."""
        open_calls = [
            event
            for event in events
            if event.event_type not in _INTERNAL and _HAS_OUTCOME not in event.payload
        ]
        if not open_calls:
            return list(events)
        times = [event.event_time for event in open_calls]
        rows = self._readers.rows(
            _OUTCOMES,
            {
                "type": EventType.RESPONSE.value,
                "ids": [event.event_id for event in open_calls],
                "since": ms(min(times)),
                "until": ms(max(times) + LATEST_OUTCOME),
            },
        )
        outcomes = {(producer, of): payload for producer, of, payload in rows}
        return [_merged(event, outcomes) for event in events]


def _merged(event: StoredEvent, outcomes: Mapping[tuple[str, str], str]) -> StoredEvent:
    """With its outcome, if there is one; what the call already says stays."""
    outcome = outcomes.get((event.producer, event.event_id))
    if outcome is None or event.event_type in _INTERNAL:
        return event
    call, told = orjson.loads(event.payload), orjson.loads(outcome)
    if not isinstance(call, dict) or not isinstance(told, dict):
        return event
    added = {name: told[name] for name in OUTCOME_MEMBERS if name in told and name not in call}
    return structs.replace(event, payload=orjson.dumps(call | added).decode())


def _of_a_page() -> dict[str, str]:
    return {"max_memory_usage": str(PAGE_BYTES)}


def _key(event: StoredEvent) -> tuple[datetime, str]:
    return event.event_time, event.event_id


def _around(id_: UUID) -> EventFilter | None:
    """When the event should have happened, as its id tells; None where it does not."""
    if id_.version != 7:
        return None
    at = moment(id_.int >> 80) if id_.int >> 80 < _FAR_MS else None
    return EventFilter(since=at - AROUND_ID, until=at + AROUND_ID) if at else None


_FAR_MS: Final = int(datetime(2200, 1, 1, tzinfo=UTC).timestamp() * 1000)
