"""`python -m tests.perf.pipeline.disk URL`: what the store takes on disk; prints JSON.

A process of its own: chDB opens one path in the life of a process.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import clickhouse_connect

from tests.perf.pipeline.bare import DATABASE
from tests.perf.pipeline.processes import run_child

_HERE = "table = 'events' AND database = currentDatabase() AND active"


@dataclass(frozen=True, slots=True)
class Disk:
    """Bytes of an event on disk, of which projections, indexes and columns are parts.

    Args:
        inserted: before merges by hand; background merges may have begun.
        merged: in one part a day; the rest is of this state.
        other: primary key, marks, checksums and the like.
        columns: by name, marks included; compressed.
    """

    rows: int
    parts_inserted: int
    inserted: float
    merged: float
    projections: dict[str, float]
    indexes: float
    other: float
    columns: dict[str, float]


@dataclass(frozen=True, slots=True)
class Log:
    """What an event takes in the log.

    Args:
        message_bytes: mean, stamps of ingest included, uncompressed.
        packed: by codec `bytes`, in batches of the producer's size, and `cpu` per million events.
    """

    message_bytes: float
    packed: dict[str, dict[str, float]]


def log(filled: Path) -> Log:
    """Of an embedded log; Kafka's messages are the same."""
    return Log(**run_child("bare", "pack", filled))


def measure(url: str) -> Disk:
    """Of a store that nobody has open."""
    return Disk(**run_child("disk", url))


def _main(address: str) -> dict[str, Any]:
    url = urlsplit(address)
    embedded = url.scheme == "chdb"
    client = clickhouse_connect.get_client(
        dsn=address if embedded else url._replace(path="").geturl(),
        database=DATABASE if embedded else url.path.strip("/"),
    )

    def ask(sql: str) -> Any:
        return client.query(sql).result_rows

    totals = f"SELECT sum(rows), count(), sum(bytes_on_disk) FROM system.parts WHERE {_HERE}"
    ((rows, parts, inserted),) = ask(totals)
    client.command("OPTIMIZE TABLE events FINAL")
    ((_, _, merged),) = ask(totals)
    ((indexes,),) = ask(
        "SELECT sum(secondary_indices_compressed_bytes) + sum(secondary_indices_marks_bytes)"
        f" FROM system.parts WHERE {_HERE}"
    )
    projections = ask(
        f"SELECT name, sum(bytes_on_disk) FROM system.projection_parts WHERE {_HERE} GROUP BY name"
    )
    columns = ask(
        "SELECT column, sum(column_data_compressed_bytes + column_marks_bytes)"
        f" FROM system.parts_columns WHERE {_HERE} GROUP BY column ORDER BY 2 DESC"
    )
    known = indexes + sum(size for _, size in projections) + sum(size for _, size in columns)
    client.close()
    return {
        "rows": rows,
        "parts_inserted": parts,
        "inserted": inserted / rows,
        "merged": merged / rows,
        "projections": {name: size / rows for name, size in projections},
        "indexes": indexes / rows,
        "other": (merged - known) / rows,
        "columns": {name: size / rows for name, size in columns},
    }


if __name__ == "__main__":
    print(json.dumps(_main(sys.argv[1])))
