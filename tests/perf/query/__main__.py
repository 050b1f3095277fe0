"""`python -m tests.perf.query`: what questions cost, beside the same SQL in the bare engine.

Questions are asked with random arguments, each of the engine alone and through the store's
adapter in turn; then, since chDB serves one process at a time, over HTTP from a real api.
"""

import argparse
import os
import platform
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import ParamSpec, TypeVar

from backend.adapters.clickhouse_client import Server
from backend.adapters.clickhouse_store import ClickHouseStore
from backend.queries import ExportForm
from extauthz.core.times import format_instant
from tests.perf.pipeline.processes import ROOT, Service, service
from tests.perf.query import http, report
from tests.perf.query.bare import Engine, Recording, seconds
from tests.perf.query.dataset import Dataset, load, until_today
from tests.perf.query.questions import QUESTIONS, WINDOW_DAYS, Asked, drawn, sample
from tests.perf.query.report import Answered, Run, times

PACKAGES = ("chdb", "clickhouse-connect", "flask", "msgspec", "waitress")
P = ParamSpec("P")
T = TypeVar("T")
SEED = 20261122
EXPORTED = 400_000


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure.

    Args:
        rounds: arguments of each question.
        seconds: of the load from many connections.
        keep: use the events that lie there, and leave them.
    """

    events: int
    rounds: int
    seconds: float
    keep: bool


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.perf.query", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="100000000 for the aim's run")
    parser.add_argument("--rounds", type=int, default=20, help="arguments of each question")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the load")
    parser.add_argument("--keep", action="store_true", help="the events, for the next run")
    parser.add_argument("--out", type=Path, default=report.REPORT, help="the report's file")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended
    run = measure(Plan(given.events, given.rounds, given.seconds, given.keep))
    report.write(given.out, run)
    report.show(run)
    return 0


def measure(plan: Plan) -> Run:
    folder = ROOT / "build" / "bench" / f"query-{plan.events}"
    data = until_today(plan.events, WINDOW_DAYS)
    took = _load(folder, data, plan.keep)
    try:
        stand = _InProcess(folder / "store", data)
        asked = {
            name: drawn(question, stand.sample, plan.rounds) for name, question in QUESTIONS.items()
        }
        inside = {name: _told(name, stand.times, same) for name, same in asked.items()}
        size = stand.bytes()
        stand.close()
        url = f"chdb://{folder / 'store'}?ch_use_query_condition_cache=0"
        with service("api", folder, STORE_URL=url) as api:
            _tell("over HTTP")
            for same in asked.values():
                http.times(api, same[:1])
            outside = {
                name: times(_told(name, http.times, api, same)) for name, same in asked.items()
            }
            _tell("many at once, and exports")
            load_ = http.load(api, plan.seconds)
            exports = _exports(api, data)
    finally:
        if not plan.keep:
            shutil.rmtree(folder)
    questions = {
        name: Answered(statements, bare, store, outside[name])
        for name, (statements, bare, store) in inside.items()
    }
    facts = _facts() | {"plan": asdict(plan)}
    return Run(facts, data.events, data.days, took, size, questions, load_, exports)


class _InProcess:
    """The engine in this process, with and without the adapter."""

    def __init__(self, path: Path, data: Dataset) -> None:
        self._server = Server(f"chdb://{path}", "")
        self._readers, self._engine = Recording(self._server), Engine(str(path))
        self.sample = sample(self._readers, data, random.Random(SEED))
        self._readers.taken()

    def times(self, asked: list[Asked]) -> tuple[int, report.Times, report.Times]:
        """Statements, the bare engine's times, the adapter's."""
        bare, store, statements = [], [], 0
        for number, each in enumerate([asked[0], *asked]):  # the first one warms up
            each.ask(self._readers)
            taken = self._readers.taken()
            statements = max(statements, len(taken))
            measured = [
                lambda each=each: store.append(seconds(lambda: each.ask(self._readers))),
                lambda taken=taken: bare.append(seconds(lambda: self._engine.ask(taken))),
            ]
            for act in measured if number % 2 else reversed(measured):
                act()
            self._readers.taken()
        return statements, times(bare[1:]), times(store[1:])

    def bytes(self) -> float:
        """Of an event on disk, with all that finds it."""
        ((found,),) = self._readers.rows(
            "SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts"
            " WHERE active AND table = 'events'",
            {},
        )
        return float(found)

    def close(self) -> None:
        self._readers.close()
        self._engine.close()


def _load(folder: Path, data: Dataset, keep: bool) -> float:
    """How long it took; 0 where events were kept."""
    if keep and folder.exists():
        return 0.0
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    _tell(f"making {data.events:,} events")
    url = f"chdb://{folder / 'store'}"
    store = ClickHouseStore(url)
    store.migrate()
    client = Server(url, "").connect()
    took = seconds(lambda: load(client, data))
    _tell("merging")
    client.command("OPTIMIZE TABLE events FINAL")  # as they lie once they are some hours old
    client.close()
    store.close()
    return took


def _exports(api: Service, data: Dataset) -> dict[str, http.Export]:
    share = min(1.0, EXPORTED / data.events)
    since = _written(data.end - (data.end - data.begin) * share)
    http.export(
        api, ExportForm.NDJSON.value, _written(data.end - (data.end - data.begin) * share / 10)
    )
    return {form.value: http.export(api, form.value, since) for form in ExportForm}


def _written(at: datetime) -> str:
    return format_instant(at.timestamp())


def _facts() -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, Linux {platform.release()}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _told(name: str, act: Callable[P, T], *given: P.args, **named: P.kwargs) -> T:
    """What `act` returns; its name and how long it took are told, for a run may take an hour."""
    begin = time.monotonic()
    found = act(*given, **named)
    _tell(f"  {name}: {time.monotonic() - begin:.1f} s")
    return found


def _tell(said: str) -> None:
    print(said, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
