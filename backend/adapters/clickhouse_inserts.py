"""Inserts of rows: none begins too late, and one whose end nobody was told is waited for."""

import math
import time
from collections.abc import Sequence
from contextlib import nullcontext
from io import BytesIO
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from backend.adapters import clickhouse_schema
from backend.adapters.chdb_parts import Parts
from backend.adapters.clickhouse_client import (
    ANSWER_SECONDS,
    BAD_ROW,
    QUERY_SETTINGS,
    Server,
    translated,
)
from backend.adapters.clickhouse_rows import FORMAT, WRITTEN, lines_of
from backend.adapters.clickhouse_schema import Schema
from backend.ports.event_store import StoredEvent
from extauthz.core.errors import Retryable

POLL_SECONDS: Final = 0.1
_SETTINGS: Final = {
    "date_time_input_format": "best_effort",  # numbers would be misread, silently
    "input_format_json_read_objects_as_strings": "1",  # payloads, each byte as it is
    "max_partitions_per_insert_block": "0",  # a batch of old events may span many days
    "async_insert": "0",
    "distributed_foreground_insert": "1",  # the answer comes when the shards have the rows
    "send_progress_in_http_headers": "0",  # each of them would put the time limit off
}


class Inserts:
    """Into one database.

    Args:
        server: where it is.
        schema: of its tables.
        reader: a connection for questions about inserts.
        seconds: how long one may take.
    """

    def __init__(self, server: Server, schema: Schema, reader: Client, seconds: int) -> None:
        self._server, self._schema, self._reader = server, schema, reader
        self._seconds = seconds
        self._writer = server.connect(seconds)
        self._parts = Parts(self._ask) if server.is_embedded else None
        if self._parts:
            self._parts.start()
        self._in_doubt = False  # whether one of ours may still run
        # Our inserts are told by it in `system.processes`, and the table's constraint `in_time`
        # reads what follows.
        self._comment = f"sentinel insert into {server.database} until "

    def close(self) -> None:
        if self._parts:
            self._parts.close()
        self._writer.close()

    def insert(self, rows: Sequence[StoredEvent], until: float) -> None:
        """Store rows. Raises: Invalid, Retryable."""
        # No text holds a lone surrogate, for each was read from UTF-8.
        # A stream: clickhouse-connect sends bytes again when their answer was lost, though
        # they may be stored by then.
        block = BytesIO(lines_of(rows))
        named = {"log_comment": self._comment + self._deadline(until)}
        self._in_doubt = True
        checked = self._parts.inserting() if self._parts else nullcontext()
        with checked, translated(blame=BAD_ROW):
            self._writer.raw_insert(
                "events",
                WRITTEN,
                insert_block=block,
                fmt=FORMAT,
                settings=_SETTINGS | {"max_execution_time": str(self._seconds)} | named,
            )
        self._in_doubt = False

    def await_doubtful(self) -> None:
        """Until the one that failed is over, if one did. Raises: Retryable."""
        if self._in_doubt:
            self.await_all()
            self._in_doubt = False

    def await_all(self) -> None:
        """Until none runs that runs now: of a process that died, too. Raises: as above."""
        if self._parts:  # an insert of chDB is over when its call is, but perhaps not whole
            self._parts.check()
            return
        until = time.monotonic() + self._seconds + ANSWER_SECONDS
        awaited = running = self._running()
        while awaited & running:
            if time.monotonic() > until:
                raise Retryable("an insert into the event store does not end; look at its log")
            time.sleep(POLL_SECONDS)
            running = self._running()
        self._catch_up()

    def _ask(self, statement: str) -> bytes:
        with translated():
            return self._writer.raw_query(statement)

    def _deadline(self, until: float) -> str:
        """In milliseconds of the server's clock; empty where there is none, or no server."""
        if self._parts or until == math.inf:
            return ""
        ((now_ms,),) = self._query("SELECT toUnixTimestamp64Milli(now64(3))", {})
        # The answer's way counts as the server's time: rather too early than too late.
        return str(int(now_ms + (until - time.monotonic()) * 1000))

    def _running(self) -> frozenset[str]:
        processes, cluster = "system.processes", self._server.cluster
        if cluster:
            processes = f"clusterAllReplicas('{cluster}', {processes})"
        rows = self._query(
            f"SELECT query_id FROM {processes}"
            " WHERE startsWith(Settings['log_comment'], {comment:String})",
            {"comment": self._comment},
        )
        return frozenset(str(query_id) for (query_id,) in rows)

    def _catch_up(self) -> None:
        """Any replica may answer: each must have what another one acknowledged."""
        if self._server.cluster:
            with translated():
                self._reader.command(clickhouse_schema.catch_up(self._schema))

    def _query(self, sql: str, given: dict[str, Any]) -> Sequence[Sequence[Any]]:
        with translated():
            rows: Sequence[Sequence[Any]] = self._reader.query(
                sql, parameters=given, settings=dict(QUERY_SETTINGS)
            ).result_rows
            return rows
