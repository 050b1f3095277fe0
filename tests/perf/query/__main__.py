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
from tests.perf.query.bare import Engine, Recording, spent
from tests.perf.query.dataset import Dataset, Loaded, load, until_today
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
        rounds: arguments of each question, at most.
        budget: seconds that one question may take each way, once it was asked `LEAST` times.
        seconds: of the load from many connections.
        folder: of the events, which are kept, and used again; None for one that is removed.
    """

    events: int
    rounds: int
    budget: float
    seconds: float
    folder: Path | None


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.perf.query", description=__doc__)
    parser.add_argument("--events", type=int, default=1_000_000, help="100000000 for the aim's run")
    parser.add_argument("--rounds", type=int, default=20, help="arguments of each question")
    parser.add_argument("--budget", type=float, default=2.0, help="seconds of a question, each way")
    parser.add_argument("--seconds", type=float, default=5.0, help="of the load")
    parser.add_argument("--folder", type=Path, help="for the events; the next run uses them again")
    parser.add_argument("--out", type=Path, default=report.REPORT, help="the report's file")
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that every process is ended
    folder = given.folder.resolve() if given.folder else None
    run = measure(Plan(given.events, given.rounds, given.budget, given.seconds, folder))
    report.write(given.out, run)
    report.show(run)
    return 0


def measure(plan: Plan) -> Run:
    if plan.folder:
        return _measured(plan, plan.folder)
    folder = ROOT / "build" / "bench" / f"query-{plan.events}"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        return _measured(plan, folder)
    finally:
        shutil.rmtree(folder)


def _measured(plan: Plan, folder: Path) -> Run:
    kept = Loaded.of(folder, until_today(plan.events, WINDOW_DAYS))
    _load(folder, kept)
    data = kept.data
    facts = _facts() | {"plan": {**asdict(plan), "folder": str(plan.folder or "")}}
    stand = _InProcess(folder / "store", data)
    asked = {
        name: drawn(question, stand.sample, plan.rounds) for name, question in QUESTIONS.items()
    }
    inside = {name: _told(name, stand.times, same, plan.budget) for name, same in asked.items()}
    size = stand.bytes()
    stand.close()
    url = f"chdb://{folder / 'store'}?ch_use_query_condition_cache=0"
    with service("api", folder, STORE_URL=url) as api:
        _tell("over HTTP")
        for same in asked.values():
            http.times(api, same[:1], plan.budget)
        outside = {
            name: times(_told(name, http.times, api, same, plan.budget))
            for name, same in asked.items()
        }
        _tell("many at once, and exports")
        load_ = http.load(api, plan.seconds)
        exports = _exports(api, data)
    questions = {
        name: Answered(statements, bare, store, outside[name])
        for name, (statements, bare, store) in inside.items()
    }
    facts["load average"] = f"{facts['load average']} at the start, {_load_average()} at the end"
    return Run(facts, data.events, data.days, kept.seconds, size, questions, load_, exports)


class _InProcess:
    """The engine in this process, with and without the adapter."""

    def __init__(self, path: Path, data: Dataset) -> None:
        self._server = Server(f"chdb://{path}", "")
        self._readers, self._engine = Recording(self._server), Engine(str(path))
        self.sample = sample(self._readers, data, random.Random(SEED))
        self._readers.taken()

    def times(self, asked: list[Asked], budget: float) -> tuple[int, report.Times, report.Times]:
        """Statements, the bare engine's times, the adapter's."""
        bare, store, statements = [], [], 0
        until = time.monotonic() + 3 * budget  # each is asked to be taken down, too
        for number, each in enumerate([asked[0], *asked]):  # the first one warms up
            if number > http.LEAST and time.monotonic() > until:
                break
            each.ask(self._readers)
            taken = self._readers.taken()
            statements = max(statements, len(taken))
            measured = [
                lambda each=each: store.append(spent(lambda: each.ask(self._readers))),
                lambda taken=taken: bare.append(spent(lambda: self._engine.ask(taken))),
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


def _load(folder: Path, kept: Loaded) -> None:
    """What is missing, day by day, so that a run that was ended goes on."""
    _tell(f"{kept.data.events:,} events, {kept.days} of {kept.data.days} days are there")
    url = f"chdb://{folder / 'store'}"
    store = ClickHouseStore(url)
    store.migrate()
    client = Server(url, "").connect()
    while kept.days < kept.data.days:
        day = kept.days
        kept.seconds += spent(lambda day=day: load(client, kept.data, day)).seconds
        kept.days += 1
        kept.write(folder)
        _tell(f"  day {kept.days} of {kept.data.days}: {kept.seconds:.0f} s so far")
    client.close()
    store.close()


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
        "load average": _load_average(),
        "python": platform.python_version(),
        "versions": {name: version(name) for name in PACKAGES},
    }


def _load_average() -> str:
    return f"{os.getloadavg()[0]:.1f}"


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
