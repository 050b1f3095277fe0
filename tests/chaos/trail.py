"""What the store holds after a run, read by a process of its own: chDB opens a path once."""

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Projections are compared as the engine describes them, whatever the schema says next year.
_READ = """
import json, sys
import clickhouse_connect
client = clickhouse_connect.get_client(dsn=f"chdb://{sys.argv[1]}", database="mcp")
for gone in sys.argv[2:]:
    client.command(
        f"ALTER TABLE events DELETE WHERE event_id = '{gone}'", settings={"mutations_sync": "1"}
    )
def values(query):  # of a projection, in any order of rows, states of aggregates finished
    inner = "(" + query.replace(" GROUP BY ", " FROM events GROUP BY ") + ")"
    columns = client.query("DESCRIBE " + inner).result_rows
    return "SELECT arraySort(groupArray(tuple(" + ", ".join(
        f"finalizeAggregation(`{name}`)" if kind.startswith("AggregateFunction") else f"`{name}`"
        for name, kind, *_ in columns
    ) + "))) FROM " + inner
print(json.dumps([
    [name, forced == plain]
    for name, query in client.query(
        "SELECT name, query FROM system.projections"
        " WHERE database = 'mcp' AND table = 'events' AND type = 'Aggregate'"
    ).result_rows
    for sql in [values(query)]
    for forced in [client.query(sql, settings={"force_optimize_projection": 1}).result_rows]
    for plain in [client.query(sql, settings={"optimize_use_projections": 0}).result_rows]
]))
rows = client.query(
    "SELECT toString(event_id), event_type, source, toString(trace_id), payload,"
    " toString(topic_id), log_partition, log_offset FROM events"
).result_rows
for row in rows:
    print(json.dumps(row))
"""


@dataclass(frozen=True, slots=True)
class Row:
    """A stored event."""

    event_id: str
    event_type: str
    source: str
    trace_id: str
    payload: Any
    position: tuple[str, int, int]

    def member(self, name: str) -> Any:
        """Of the payload; None where it has none."""
        return self.payload.get(name) if isinstance(self.payload, dict) else None


@dataclass(frozen=True, slots=True)
class Trail:
    """All rows, and of each aggregate projection whether it equals them."""

    rows: list[Row]
    projections: dict[str, bool]


def read_trail(store: Path, *, without: tuple[str, ...] = ()) -> Trail:
    """Read a store that nobody has open.

    Args:
        without: ids of events to delete first, for proof that their loss is found.
    """
    words = [sys.executable, "-c", _READ, str(store), *without]
    done = subprocess.run(words, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    first, *lines = done.stdout.splitlines()
    rows = []
    for line in lines:
        event_id, event_type, source, trace_id, payload, *position = json.loads(line)
        topic_id, partition, offset = position
        rows.append(
            Row(
                event_id,
                event_type,
                source,
                trace_id,
                json.loads(payload),
                (topic_id, partition, offset),
            )
        )
    return Trail(rows, dict(json.loads(first)))
