"""Exports: the store itself writes the lines, for it is the only one that is quick enough.

One chunk after another, each a question of its own that begins behind the one before: the
memory is constant, no question takes long, and events that arrive meanwhile change nothing.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from backend.adapters import clickhouse_events
from backend.adapters.clickhouse_client import TooLarge
from backend.adapters.clickhouse_events import ANY_TYPE, FEWER, LATEST_OUTCOME, OUTCOME_MEMBERS
from backend.adapters.clickhouse_filter import Conditions, conditions
from backend.adapters.clickhouse_readers import Readers
from backend.adapters.clickhouse_rows import moment
from backend.queries import Cursor, EventFilter, ExportForm
from extauthz.core.events import INTERNAL_TYPES, EventType

CHUNK: Final = 10_000  # events; ten megabytes

# Members of `/api/events` that are left out where they are empty, in its order.
_BEFORE_ID: Final = (
    *("trace_id", "server", "namespace", "team_id", "cluster", "human_id", "agent_id"),
    *("session_id", "decision", "tool_name"),
)
_AFTER_ID: Final = ("reason", "producer")
COLUMNS: Final = (
    *("timestamp", "source", "event_type", *_BEFORE_ID, "event_id", *_AFTER_ID, "request_id"),
    "payload",
)
_PLAIN: Final = ("source", "event_type", *_BEFORE_ID, *_AFTER_ID, "request_id")
_FORMATS: Final = {ExportForm.NDJSON: "TSVRaw", ExportForm.CSV: "CSV"}
_SETTINGS: Final = ANY_TYPE | {
    "output_format_json_escape_forward_slashes": "0",
    "max_block_size": "8192",
}

_TIMESTAMP: Final = "concat(replaceOne(toString(event_time), ' ', 'T'), 'Z')"
# White space between the members of JSON, for in its strings it is escaped.
_TEXT: Final = "trimLeft(translate(payload, '\\r\\n\\t', '   '))"
# What a call's payload lacks of its outcome goes in front of it.
_ADDED: Final = (
    "arrayStringConcat(arrayMap(name -> concat('\"', name, '\":', JSONExtractRaw(outcome, name)),"
    " arrayFilter(name -> JSONHas(outcome, name) AND NOT JSONHas(payload, name),"
    f" [{', '.join(repr(name) for name in OUTCOME_MEMBERS)}])), ',')"
)
_MEMBERS: Final = f"trimLeft(substring({_TEXT}, 2))"
_PAYLOAD: Final = (
    f"if(outcome = '' OR NOT startsWith({_TEXT}, '{{') OR {_ADDED} = '', {_TEXT},"
    f" concat('{{', {_ADDED}, if(startsWith({_MEMBERS}, '}}'), '', ','), {_MEMBERS}))"
)


def _member(name: str) -> str:
    return f"if({name} = '', '', concat(',\"{name}\":', toJSONString({name})))"


_LINE: Final = (
    f'concat(\'{{"timestamp":"\', {_TIMESTAMP}, \'","source":\', toJSONString(source),'
    f" ',\"event_type\":', toJSONString(event_type), ',\"payload\":', {_PAYLOAD},"
    f" {', '.join(map(_member, _BEFORE_ID))},"
    " ',\"event_id\":\"', toString(event_id), '\"',"
    f" {', '.join(map(_member, _AFTER_ID))}, '}}')"
)


_WIDE: Final = "\uff1d\uff0b\uff0d\uff20"  # = + - @ in their full width


def _cell(name: str) -> str:
    """A spreadsheet takes some beginnings for a formula, in their full width, too."""
    text = {"timestamp": _TIMESTAMP, "event_id": "toString(event_id)", "payload": _PAYLOAD}.get(
        name, name
    )
    return (
        f"if({text} != '' AND (position('=+-@\\t\\r\\n', substring({text}, 1, 1)) > 0"
        f" OR position('{_WIDE}', substring({text}, 1, 3)) > 0),"
        f" concat('\\'', {text}), {text})"
    )


_SELECTED: Final = {
    ExportForm.NDJSON: _LINE,
    ExportForm.CSV: ", ".join(map(_cell, COLUMNS)),
}
_EDGE: Final = (
    "SELECT toUnixTimestamp64Milli(event_time), event_id FROM events WHERE {where}"
    " ORDER BY event_time DESC, event_id DESC LIMIT 1 OFFSET {{behind:UInt32}}"
)
_INTERNAL: Final = ", ".join(sorted(f"'{event_type}'" for event_type in INTERNAL_TYPES))
_CHUNK: Final = f"""
SELECT {{selected}} FROM
(
    SELECT event_time, event_id, payload, {", ".join(_PLAIN)}
    FROM events WHERE {{where}}
) AS called
GLOBAL ANY LEFT JOIN
(
    SELECT producer, outcome_of, payload AS outcome FROM events
    WHERE event_type = '{EventType.RESPONSE}' AND {{outcomes}} AND outcome_of GLOBAL IN
    (
        SELECT toString(event_id) FROM events
        WHERE event_type NOT IN ({_INTERNAL}) AND latency_step = 0 AND {{where}}
    )
) AS ended ON ended.outcome_of = toString(called.event_id) AND ended.producer = called.producer
ORDER BY event_time DESC, event_id DESC
"""


class ExportQueries:
    """EventStore's exports."""

    def __init__(self, readers: Readers) -> None:
        self._readers = readers

    def export(self, asked: EventFilter, form: ExportForm) -> Iterator[bytes]:
        if form is ExportForm.CSV:
            yield (",".join(COLUMNS) + "\n").encode()
        after: Cursor | None = None
        size = CHUNK
        while True:
            try:
                edge = self._edge(asked, after, size)
                chunk = self._chunk(asked, form, after, edge)
            except TooLarge:
                if size == 1:
                    raise
                size = max(1, size // FEWER)
                continue
            yield chunk
            if edge is None:
                return
            after, size = edge, min(CHUNK, 2 * size)

    def _edge(self, asked: EventFilter, after: Cursor | None, size: int) -> Cursor | None:
        """The last event of the chunk; None when fewer are left than it holds."""
        found = _behind(asked, after)
        sql = _EDGE.format(where=found.sql)
        rows: Sequence[Sequence[Any]] = self._readers.rows(
            sql, found.given | {"behind": size - 1}, ANY_TYPE
        )
        return Cursor(moment(rows[0][0]), str(rows[0][1])) if rows else None

    def _chunk(
        self, asked: EventFilter, form: ExportForm, after: Cursor | None, edge: Cursor | None
    ) -> bytes:
        found = _behind(asked, after)
        if edge:
            found.until(edge)
        outcomes = Conditions(given=found.given)
        first = edge.event_time if edge else asked.since
        last = after.event_time if after else asked.until
        outcomes.times(
            EventFilter(since=first, until=last + LATEST_OUTCOME if last else None), "outcome_"
        )
        sql = _CHUNK.format(selected=_SELECTED[form], where=found.sql, outcomes=outcomes.sql)
        given = found.given | outcomes.given
        settings = _SETTINGS | {"max_memory_usage": str(clickhouse_events.PAGE_BYTES)}
        return self._readers.text(sql, given, _FORMATS[form], settings)


def _behind(asked: EventFilter, after: Cursor | None) -> Conditions:
    found = conditions(asked)
    if after:
        found.after(after)
    return found
