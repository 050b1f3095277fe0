"""What audit completeness asks of the table: runs of numbers, and holes in them.

Whole ten minutes come from the projection `gateway_runs` as bitmaps of numbers, so that
neither late rows nor duplicates count; what is left at both ends comes from the rows.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from backend.adapters.clickhouse_client import IDS_AT_ONCE, milliseconds
from backend.gateway_runs import GatewayRun, Hole

Query = Callable[[str, Mapping[str, Any]], Sequence[Sequence[Any]]]

BUCKET_MS: Final = 600_000
BUCKETS_END_MS: Final = 4_294_800_000_000  # the last ten minutes that DateTime can tell

# The projection is used only where expressions and keys are written as in the schema.
_PARTS: Final = """
    SELECT gateway_start, producer, server, namespace, sequence > 0 AS numbered,
        max(gateway) AS gateways, groupBitmapState(sequence) AS numbers, count() AS row_count,
        min(event_time) AS first_time, max(event_time) AS last_time,
        countIf(event_type = 'gateway.start') AS starts,
        countIf(event_type = 'gateway.heartbeat') AS heartbeats
    FROM events WHERE {where}
    GROUP BY gateway_start, producer, server, namespace, sequence > 0
"""
_OF_START: Final = " AND gateway_start = {start:String}"
_BUCKETS: Final = (
    "toStartOfTenMinutes(event_time) >= toDateTime({inner_first:UInt32}, 'UTC')"
    " AND toStartOfTenMinutes(event_time) < toDateTime({inner_end:UInt32}, 'UTC')"
)
_ENDS: Final = (
    "(event_time >= fromUnixTimestamp64Milli({since:Int64})"
    " AND event_time < fromUnixTimestamp64Milli({inner_first_ms:Int64})"
    " OR event_time >= fromUnixTimestamp64Milli({inner_end_ms:Int64})"
    " AND event_time <= fromUnixTimestamp64Milli({until:Int64}))"
)
_RUNS: Final = """
SELECT producer, max(gateways), start, max(own_namespace), max(own_server),
    if(start = '', 0, bitmapMin(groupBitmapMergeState(numbers) AS all)),
    if(start = '', 0, bitmapMax(all)), if(start = '', 0, bitmapCardinality(all)),
    sum(row_count), toUnixTimestamp64Milli(min(first_time)),
    toUnixTimestamp64Milli(max(last_time)), sum(starts) > 0, sum(heartbeats)
FROM
(
    SELECT *, if(numbered, gateway_start, '') AS start,
        toString(server) AS own_server, toString(namespace) AS own_namespace
    FROM ({parts})
)
GROUP BY producer, start, if(start = '', (own_server, own_namespace), ('', ''))
ORDER BY producer, max(gateways), start, max(own_server), max(own_namespace)
"""
# Every run that has events in this time, with its numbers of all times. A hole lies between
# two stored numbers, of which the greater is from this time.
_HOLES: Final = """
SELECT producer, gateway_start, hole.1 + 1, toUInt64(hole.2 - 1)
FROM
(
    SELECT producer, gateway_start, bitmapSubsetInRange(stored, least, most) AS inside,
        bitmapMax(bitmapSubsetInRange(stored, 0, least)) AS before,
        arraySort(arrayConcat(if(before > 0, [before], []), bitmapToArray(inside), [most])) AS known
    FROM
    (
        SELECT producer, gateway_start, bitmapMin(groupBitmapMergeState(numbers) AS all) AS least,
            bitmapMax(all) AS most
        FROM ({parts})
        WHERE numbered AND gateway_start != ''
        GROUP BY producer, gateway_start
    ) AS here
    INNER JOIN
    (
        SELECT producer, gateway_start, groupBitmapState(sequence) AS stored
        FROM events
        WHERE sequence > 0 AND gateway_start IN (SELECT gateway_start FROM ({parts}))
        GROUP BY producer, gateway_start
    ) AS always USING (producer, gateway_start)
    WHERE bitmapCardinality(inside) != most - least OR (before > 0 AND before + 1 != least)
)
ARRAY JOIN arrayFilter(pair -> pair.2 > pair.1 + 1,
    arrayZip(arrayPopBack(known), arrayPopFront(known))) AS hole
ORDER BY gateway_start, producer, hole.1
LIMIT {{limit:UInt32}}
"""
_TIMES: Final = """
SELECT producer, gateway_start, sequence, toUnixTimestamp64Milli(min(event_time))
FROM events
WHERE gateway_start IN {starts:Array(String)} AND sequence IN {sequences:Array(UInt64)}
GROUP BY producer, gateway_start, sequence
"""


def gateway_runs(
    query: Query, since: datetime, until: datetime, gateway_start: str
) -> list[GatewayRun]:
    """Runs among the events of [since, until], by producer, gateway and start."""
    parts, given = _window(since, until, gateway_start)
    return [_run(row) for row in query(_RUNS.format(parts=parts), given)]


def holes(
    query: Query, since: datetime, until: datetime, limit: int, gateway_start: str
) -> list[Hole]:
    """Holes in front of events of [since, until], oldest start first."""
    parts, given = _window(since, until, gateway_start)
    rows = query(_HOLES.format(parts=parts), {**given, "limit": limit})
    found = []
    for first in range(0, len(rows), IDS_AT_ONCE):
        found += _timed(query, rows[first : first + IDS_AT_ONCE])
    return found


def _window(since: datetime, until: datetime, start: str) -> tuple[str, dict[str, Any]]:
    first, last = milliseconds(since), milliseconds(until)
    inner_first = max(0, -(-first // BUCKET_MS) * BUCKET_MS)
    inner_end = min((last + 1) // BUCKET_MS * BUCKET_MS, BUCKETS_END_MS)
    if inner_first >= inner_end:  # no ten minutes are whole: all comes from the rows
        inner_first = inner_end = last + 1
    given = {
        "since": first,
        "until": last,
        "inner_first_ms": inner_first,
        "inner_end_ms": inner_end,
        "inner_first": min(max(inner_first, 0), BUCKETS_END_MS) // 1000,
        "inner_end": min(max(inner_end, 0), BUCKETS_END_MS) // 1000,
        "start": start,
    }
    wheres = (where + (_OF_START if start else "") for where in (_BUCKETS, _ENDS))
    return " UNION ALL ".join(_PARTS.format(where=where) for where in wheres), given


def _run(row: Sequence[Any]) -> GatewayRun:
    producer, gateway, start, namespace, server, first, last, present, rows, *rest = row
    first_at, last_at, started, heartbeats = rest
    return GatewayRun(
        producer=producer,
        gateway=gateway,
        gateway_start=start,
        namespace=namespace,
        server=server,
        first=first,
        last=last,
        present=present,
        rows=rows,
        first_at=_moment(first_at),
        last_at=_moment(last_at),
        started=bool(started),
        heartbeats=heartbeats,
    )


def _timed(query: Query, rows: Sequence[Sequence[Any]]) -> list[Hole]:
    """With the times of the events behind the holes."""
    times = query(
        _TIMES,
        {
            "starts": sorted({start for _, start, _, _ in rows}),
            "sequences": sorted({last + 1 for *_, last in rows}),
        },
    )
    at = {(producer, start, sequence): ms for producer, start, sequence, ms in times}
    return [
        Hole(producer, start, first, last, _moment(at[producer, start, last + 1]))
        for producer, start, first, last in rows
    ]


def _moment(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
