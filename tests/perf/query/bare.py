"""The same statements, bare: what the store's adapter asked is asked again of the engine alone."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import chdb
from clickhouse_connect.driver.binding import bind_query

from backend.adapters.clickhouse_client import DATABASE, Server
from backend.adapters.clickhouse_readers import Readers

# A second run of the same condition would read what the first one found.
UNCACHED = {"use_query_condition_cache": "0"}
Statement = tuple[str, Mapping[str, Any], Mapping[str, str], str]


class Recording(Readers):
    """Readers that remember what was asked since it was last taken."""

    def __init__(self, server: Server) -> None:
        super().__init__(server)
        self._settings = self._settings | UNCACHED
        self._asked: list[Statement] = []

    def rows(
        self, sql: str, given: Mapping[str, Any], settings: Mapping[str, str] | None = None
    ) -> Sequence[Sequence[Any]]:
        self._asked.append((sql, given, settings or {}, "Native"))
        return super().rows(sql, given, settings)

    def text(
        self,
        sql: str,
        given: Mapping[str, Any],
        form: str,
        settings: Mapping[str, str] | None = None,
    ) -> bytes:
        self._asked.append((sql, given, settings or {}, form))
        return super().text(sql, given, form, settings)

    def taken(self) -> list[Statement]:
        asked, self._asked = self._asked, []
        return asked


class Engine:
    """chDB without any client."""

    def __init__(self, path: str) -> None:
        self._connection = chdb.connect(path)
        self._connection.query(f"USE {DATABASE}")

    def ask(self, statements: Sequence[Statement]) -> None:
        for sql, given, settings, form in statements:
            bound, parameters = bind_query(sql, dict(given))
            assert isinstance(bound, str)
            set_ = ", ".join(f"{name} = '{value}'" for name, value in (settings | UNCACHED).items())
            self._connection.query(
                f"{bound}\nSETTINGS {set_}",
                form,
                params={name.removeprefix("param_"): value for name, value in parameters.items()},
            ).bytes()

    def close(self) -> None:
        self._connection.close()


@dataclass(frozen=True, slots=True)
class Spent:
    """On one question.

    Args:
        cpu_seconds: of the whole process that answers.
    """

    seconds: float
    cpu_seconds: float


def spent(act: Callable[[], object]) -> Spent:
    """In this process."""
    begin, cpu = time.perf_counter(), time.process_time()
    act()
    return Spent(time.perf_counter() - begin, time.process_time() - cpu)
