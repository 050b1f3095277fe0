"""Exports: the store itself writes the lines, for it is the only one that is quick enough.

One chunk after another, each a question of its own that begins behind the one before: the
memory is constant, no question takes long, and events that arrive meanwhile change nothing.
One is fetched while the one before is sent.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from backend.adapters import clickhouse_events
from backend.adapters.clickhouse_client import TooLarge
from backend.adapters.clickhouse_events import ANY_TYPE, FEWER, LATEST_OUTCOME, OUTCOME_MEMBERS
from backend.adapters.clickhouse_filter import Conditions, conditions
from backend.adapters.clickhouse_readers import Readers
from backend.adapters.clickhouse_rows import moment
from backend.queries import EVENT_MEMBERS, Cursor, EventFilter, ExportForm
from extauthz.core.events import INTERNAL_TYPES, EventType

CHUNK: Final = 20_000  # events; thirty megabytes
_FEW: Final = 1000  # ids that fit a parameter
_NEAR: Final = 2  # times as far back as the chunk before
_LEAST: Final = timedelta(milliseconds=1)

# A line has the members of `/api/events`, which are left out where they are empty. A row of CSV
# has `request_id` besides: it stands in the payload, where no spreadsheet looks.
_TEXTS: Final = tuple(name for name in EVENT_MEMBERS if name != "event_id")
_ID_AT: Final = EVENT_MEMBERS.index("event_id")
COLUMNS: Final = ("timestamp", "source", "event_type", *EVENT_MEMBERS, "request_id", "payload")
_PLAIN: Final = ("source", "event_type", *_TEXTS, "request_id")
_FORMATS: Final = {ExportForm.NDJSON: "TSVRaw", ExportForm.CSV: "CSV"}
_SETTINGS: Final = ANY_TYPE | {
    "output_format_json_escape_forward_slashes": "0",
    "max_block_size": "8192",
    # A chunk is small enough to be sorted, and what it goes through is large enough as it is.
    "optimize_read_in_order": "0",
    "output_format_parallel_formatting": "0",
}

_TIMESTAMP: Final = "concat(replaceOne(toString(event_time), ' ', 'T'), 'Z')"
_FORMULA: Final = r"^([=+@\\t\\r\\n\\x{ff1d}\\x{ff0b}\\x{ff0d}\\x{ff20}-])"
# White space between the members of JSON, for in its strings it is escaped. Looking for it is
# much quicker than replacing it, and it is rare.
_TEXT: Final = (
    "if(position(payload, '\\n') = 0 AND position(payload, '\\r') = 0"
    " AND position(payload, '\\t') = 0 AND NOT startsWith(payload, ' '),"
    " payload, trimLeft(translate(payload, '\\r\\n\\t', '   ')))"
)
# What a call's payload lacks of its outcome goes in front of it.
_ADDED: Final = (
    "arrayStringConcat(arrayMap(name -> concat('\"', name, '\":', JSONExtractRaw(outcome, name)),"
    " arrayFilter(name -> JSONHas(outcome, name) AND NOT JSONHas(payload, name),"
    f" [{', '.join(repr(name) for name in OUTCOME_MEMBERS)}])), ',')"
)
_MEMBERS: Final = f"trimLeft(substring({_TEXT}, 2))"
_WITH_OUTCOME: Final = (
    f"if(outcome = '' OR NOT startsWith({_TEXT}, '{{') OR {_ADDED} = '', {_TEXT},"
    f" concat('{{', {_ADDED}, if(startsWith({_MEMBERS}, '}}'), '', ','), {_MEMBERS}))"
)


def _member(name: str) -> str:
    return f"if({name} = '', '', concat(',\"{name}\":', toJSONString({name})))"


def _line(payload: str) -> str:
    return (
        f'concat(\'{{"timestamp":"\', {_TIMESTAMP}, \'","source":\', toJSONString(source),'
        f" ',\"event_type\":', toJSONString(event_type), ',\"payload\":', {payload},"
        f" {', '.join(map(_member, _TEXTS[:_ID_AT]))},"
        " ',\"event_id\":\"', toString(event_id), '\"',"
        f" {', '.join(map(_member, _TEXTS[_ID_AT:]))}, '}}')"
    )


def _cells(payload: str) -> str:
    exact = {"timestamp": _TIMESTAMP, "event_id": "toString(event_id)"}
    return ", ".join(
        exact.get(name) or _guarded(payload if name == "payload" else name) for name in COLUMNS
    )


def _guarded(text: str) -> str:
    """A spreadsheet takes some beginnings for a formula, in their full width, too.

    A function of one column alone reads no more than that one's dictionary.
    """
    return f"replaceRegexpOne({text}, '{_FORMULA}', '\\'\\\\1')"


_SELECTED: Final = {ExportForm.NDJSON: _line, ExportForm.CSV: _cells}
_INTERNAL: Final = ", ".join(sorted(f"'{event_type}'" for event_type in INTERNAL_TYPES))
_OPEN: Final = f"event_type NOT IN ({_INTERNAL}) AND latency_step = 0"  # calls without an outcome
_EDGE: Final = f"""
SELECT count(), min((toUnixTimestamp64Milli(event_time), event_id)),
    groupArrayIf({_FEW + 1})(toString(event_id), is_open)
FROM
(
    SELECT event_time, event_id, {_OPEN} AS is_open FROM events WHERE {{where}}
    ORDER BY event_time DESC, event_id DESC LIMIT {{{{size:UInt32}}}} WITH TIES
)
"""
_NEWEST_FIRST: Final = " ORDER BY event_time DESC, event_id DESC"
_CHUNK: Final = "SELECT {selected} FROM events WHERE {where}" + _NEWEST_FIRST
_JOINED: Final = (
    f"""
SELECT {{selected}} FROM
(
    SELECT event_time, event_id, payload, {", ".join(_PLAIN)}
    FROM events WHERE {{where}}
) AS called
GLOBAL ANY LEFT JOIN
(
    SELECT producer, outcome_of, payload AS outcome FROM events
    WHERE event_type = '{EventType.RESPONSE}' AND {{outcomes}} AND outcome_of GLOBAL IN {{calls}}
) AS ended ON ended.outcome_of = toString(called.event_id) AND ended.producer = called.producer
"""
    + _NEWEST_FIRST
)
_FEW_CALLS: Final = "{calls:Array(String)}"
_MANY_CALLS: Final = f"(SELECT toString(event_id) FROM events WHERE {_OPEN} AND {{where}})"


@dataclass(frozen=True, slots=True)
class _Begin:
    """Where a chunk begins.

    Args:
        after: the last event of the one before.
        size: how many events it shall have.
        near: a time that it should reach to at most; the table is read no further for its edge.
    """

    after: Cursor | None
    size: int
    near: datetime | None = None


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Part of an export.

    Args:
        edge: its last event; None when the export ends with it.
        open_calls: ids of calls without an outcome in their payloads, at most one more than `_FEW`.
    """

    begin: _Begin
    edge: Cursor | None
    open_calls: Sequence[str]

    @property
    def following(self) -> _Begin | None:
        """Where the next one begins; None when this is the last."""
        if not self.edge:
            return None
        size, near = min(CHUNK, 2 * self.begin.size), None
        if self.begin.after:
            last = self.edge.event_time
            near = last - _NEAR * (self.begin.after.event_time - last + _LEAST)
        return _Begin(self.edge, size, near)


class ExportQueries:
    """EventStore's exports."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def export(self, asked: EventFilter, form: ExportForm) -> Iterator[bytes]:
        if form is ExportForm.CSV:
            yield (",".join(COLUMNS) + "\n").encode()
        with ThreadPoolExecutor(1, "export") as ahead:  # of who sends: both take their time
            following, lines = self._fetched(asked, form, _Begin(None, CHUNK))
            while following:
                fetched = ahead.submit(self._fetched, asked, form, following)
                yield lines
                following, lines = fetched.result()
            yield lines

    def _fetched(
        self, asked: EventFilter, form: ExportForm, begin: _Begin
    ) -> tuple[_Begin | None, bytes]:
        """Where the next chunk begins, and the lines of this one."""
        while True:
            try:
                chunk = self._chunk(asked, begin)
                return chunk.following, self._lines(asked, form, chunk)
            except TooLarge:
                if begin.size == 1:
                    raise
                begin = replace(begin, size=max(1, begin.size // FEWER))

    def _chunk(self, asked: EventFilter, begin: _Begin) -> _Chunk:
        found = _behind(asked, begin.after)
        if begin.near:
            found.times(EventFilter(since=begin.near), "near_")
        rows: Sequence[Sequence[Any]] = self._readers.rows(
            _EDGE.format(where=found.sql), found.given | {"size": begin.size}, ANY_TYPE
        )
        ((count, (at, event_id), open_calls),) = rows
        if count >= begin.size:
            return _Chunk(begin, Cursor(moment(at), str(event_id)), open_calls)
        if begin.near:
            return self._chunk(asked, replace(begin, near=None))
        return _Chunk(begin, None, open_calls)

    def _lines(self, asked: EventFilter, form: ExportForm, chunk: _Chunk) -> bytes:
        found = _behind(asked, chunk.begin.after)
        if chunk.edge:
            found.until(chunk.edge)
        selected = _SELECTED[form]
        if chunk.open_calls:
            sql = _JOINED.format(
                selected=selected(_WITH_OUTCOME),
                where=found.sql,
                outcomes=_outcomes(asked, chunk, found),
                calls=_calls(chunk, found),
            )
        else:
            sql = _CHUNK.format(selected=selected(_TEXT), where=found.sql)
        settings = _SETTINGS | {"max_memory_usage": str(clickhouse_events.PAGE_BYTES)}
        return self._readers.text(sql, found.given, _FORMATS[form], settings)


def _outcomes(asked: EventFilter, chunk: _Chunk, found: Conditions) -> str:
    """When they happened; parameters go to those of `found`."""
    after = chunk.begin.after
    first = chunk.edge.event_time if chunk.edge else asked.since
    last = after.event_time if after else asked.until
    times = Conditions(given=found.given)
    times.times(EventFilter(since=first, until=last + LATEST_OUTCOME if last else None), "outcome_")
    found.given |= times.given
    return times.sql


def _calls(chunk: _Chunk, found: Conditions) -> str:
    """Whose outcomes are looked for: ids where they are few, else a question of its own."""
    if len(chunk.open_calls) > _FEW:
        return _MANY_CALLS.format(where=found.sql)
    found.given["calls"] = list(chunk.open_calls)
    return _FEW_CALLS


def _behind(asked: EventFilter, after: Cursor | None) -> Conditions:
    found = conditions(asked)
    if after:
        found.after(after)
    return found
