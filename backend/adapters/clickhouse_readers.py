"""Connections for the questions that people wait for.

Several, so that a long question holds no other up: on chDB a connection serves one at a
time. Each question has budgets of time and memory; beyond them the store cancels it.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from queue import Empty, LifoQueue
from typing import Any, Final

from clickhouse_connect.driver.client import Client

from backend.adapters.clickhouse_client import QUERY_SETTINGS, Server, translated
from extauthz.core.errors import Busy, TooSlow

CONNECTIONS: Final = 4
ANSWER_SECONDS: Final = 10


class Readers:
    """Connections, opened when they are first needed.

    Args:
        server: where the store is.
        answer_seconds: how long one question may take.
    """

    def __init__(self, server: Server, answer_seconds: int = ANSWER_SECONDS) -> None:
        self._server, self._seconds = server, answer_seconds
        self._settings = QUERY_SETTINGS | {
            "max_execution_time": str(answer_seconds),
            "wait_end_of_query": "1",  # an error comes as one, not in the middle of an answer
            "cancel_http_readonly_queries_on_client_close": "1",
        }
        if server.is_embedded:
            del self._settings["cancel_http_readonly_queries_on_client_close"]
        self._free: LifoQueue[Client | None] = LifoQueue()
        for _ in range(CONNECTIONS):
            self._free.put(None)

    def rows(
        self, sql: str, given: Mapping[str, Any], settings: Mapping[str, str] | None = None
    ) -> Sequence[Sequence[Any]]:
        """What a question answers.

        Raises:
            TooSlow: it ran over a budget.
            Busy: all connections are taken for as long as a question may take.
            Retryable: the store is away.
        """
        with self._client() as client:
            rows: Sequence[Sequence[Any]] = client.query(
                sql, parameters=dict(given), settings=self._settings | dict(settings or {})
            ).result_rows
            return rows

    def text(
        self,
        sql: str,
        given: Mapping[str, Any],
        form: str,
        settings: Mapping[str, str] | None = None,
    ) -> bytes:
        """The same, in a format of the store's own. Raises: as `rows`."""
        with self._client() as client:
            return bytes(
                client.raw_query(
                    sql,
                    parameters=dict(given),
                    settings=self._settings | dict(settings or {}),
                    fmt=form,
                )
            )

    @contextmanager
    def _client(self) -> Iterator[Client]:
        try:
            client = self._free.get(timeout=self._seconds)
        except Empty:
            raise Busy("too many questions to the event store at once; try again") from None
        try:
            with translated(asks=True):
                if client is None:
                    client = self._server.connect()
                yield client
        finally:
            self._free.put(client)

    def close(self) -> None:
        """Once nothing is asked any more."""
        while not self._free.empty():
            if client := self._free.get():
                client.close()


class Together:
    """Several questions that together may take as long as one.

    Args:
        seconds: from now on.
    """

    def __init__(self, readers: Readers, seconds: float = ANSWER_SECONDS) -> None:
        self._readers, self._seconds = readers, seconds
        self._until = time.monotonic() + seconds

    def rows(self, sql: str, given: Mapping[str, Any]) -> Sequence[Sequence[Any]]:
        """What a question answers. Raises: as `Readers.rows`."""
        left = self._until - time.monotonic()
        if left <= 0:
            raise TooSlow(
                f"the question took more than the {self._seconds:g} s that it may;"
                " narrow the time (`since`, `window`)"
            )
        return self._readers.rows(sql, given, {"max_execution_time": str(math.ceil(left))})
