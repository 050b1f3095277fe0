"""Migrations as a cluster of ClickHouse servers needs them. Pure.

The files in `backend/schema` are written for one server. On a cluster each table is
a replicated one on every server, `…_local`, below a Distributed table with the name
that queries know. The servers need the macros `shard` and `replica`, and Keeper. One
chDB has neither: there the rendered text can be parsed, not run.
"""

import re
from typing import Final

SHARDED: Final = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
# One and the same on every server, whatever its shard.
SHARED: Final = "'/clickhouse/shared/{database}/{table}', '{shard}-{replica}'"

_COMMENTS: Final = re.compile(r"\A(?:\s*--[^\n]*\n)*\s*")
_CREATE: Final = re.compile(r"CREATE TABLE IF NOT EXISTS (?P<table>\w+)\s")
_ENGINE: Final = re.compile(r"^ENGINE = MergeTree$", re.MULTILINE)
_ALTER: Final = re.compile(r"ALTER TABLE (?P<table>\w+)\s")
_COLUMN: Final = re.compile(r"\b(?:ADD|DROP|MODIFY|RENAME|COMMENT|ALTER) COLUMN\b")


def on_cluster(cluster: str) -> str:
    """The clause, with a space in front; empty for a single server."""
    return f" ON CLUSTER `{cluster}`" if cluster else ""


def shared_engine(cluster: str) -> str:
    """The engine of a small table that every server of the cluster holds."""
    return f"ReplicatedMergeTree({SHARED})" if cluster else "MergeTree"


def rendered(statement: str, cluster: str) -> list[str]:
    """The statements to run instead of `statement`.

    Raises:
        ValueError: a statement of no form that is known here.
    """
    if not cluster:
        return [statement]
    text = statement[_COMMENTS.match(statement).end() :]  # type: ignore[union-attr]
    if (match := _CREATE.match(text)) and len(_ENGINE.findall(text)) == 1:
        local = _on(text, match, f"{match['table']}_local", cluster)
        engine = f"ENGINE = ReplicatedMergeTree({SHARDED})"
        return [_ENGINE.sub(lambda _: engine, local), _distributed(match["table"], cluster)]
    if match := _ALTER.match(text):
        local = _on(text, match, f"{match['table']}_local", cluster)
        # Indexes, projections and TTL are the local tables' own; columns are both tables'.
        return (
            [local, _on(text, match, match["table"], cluster)] if _COLUMN.search(text) else [local]
        )
    raise ValueError(f"`{text[:80]}` cannot be rendered for a cluster; teach clickhouse_cluster.py")


def _on(text: str, match: re.Match[str], table: str, cluster: str) -> str:
    named = text[: match.start("table")] + table + on_cluster(cluster)
    return named + text[match.end("table") :]


def _distributed(table: str, cluster: str) -> str:
    # The rows of one gateway's start lie together, so that their columns repeat; what has
    # none is spread. A copy meets its first either way.
    key = "if(empty(gateway_start), toString(event_id), toString(gateway_start))"
    return (
        f"CREATE TABLE IF NOT EXISTS {table}{on_cluster(cluster)} AS {table}_local\n"
        f"ENGINE = Distributed('{cluster}', currentDatabase(), {table}_local, cityHash64({key}))"
    )
