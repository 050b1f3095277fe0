"""Edits of an access directory, recorded through a real log into a real store."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.sqlite_log import SqliteLog
from backend.history.ledger import Ledger
from backend.history.watch import COMPARE_SECONDS, DirectoryWatch
from backend.ports.event_log import Assignment, EventLog
from backend.ports.event_store import StoredEvent
from backend.processor.rows import read_records
from backend.queries import EventFilter
from extauthz.core.errors import Retryable
from extauthz.core.governance import Change, read_change
from tests.tools.event_ids import id_of
from tests.tools.waiting import soon

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """Seconds since the epoch, told by the test."""

    def __init__(self) -> None:
        self.now = NOON.timestamp()

    def __call__(self) -> float:
        return self.now


class Owner:
    """Takes every partition."""

    async def assigned(self, assignment: Assignment) -> None: ...

    async def revoked(self) -> None: ...


class History:
    """What the store has of the log; `catch_up` brings it up to date."""

    def __init__(self, log: SqliteLog, store: ClickHouseStore) -> None:
        self._store, self._consumer = store, log.consumer("test")

    async def start(self) -> None:
        await self._consumer.start(Owner())

    async def catch_up(self) -> None:
        while records := await self._consumer.fetch(1000, 0.01):
            rows, letters = read_records(records)
            assert not letters
            await asyncio.to_thread(self._store.insert, rows)

    async def changes(self) -> list[tuple[str, str, bool]]:
        """Action, name and whether it is there afterwards; oldest first."""
        await self.catch_up()
        told = [read_change(event.payload) for event in reversed(self._changes())]
        return [(change.action.value, change.key.name, bool(change.after)) for change in told]

    def _changes(self) -> Sequence[StoredEvent]:
        return self._store.page(EventFilter(event_type="governance.change"), 100).events

    async def last(self) -> Change:
        await self.catch_up()
        return read_change(self._changes()[0].payload)


@pytest.fixture
def store(emptied: ClickHouseStore) -> ClickHouseStore:
    return emptied


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "access"
    made.mkdir()
    return made


@pytest.fixture
async def history(log: SqliteLog, store: ClickHouseStore) -> History:
    made = History(log, store)
    await made.start()
    return made


Watch = Callable[..., DirectoryWatch]


@pytest.fixture
def watch(folder: Path, log: SqliteLog, store: ClickHouseStore, clock: Clock) -> Watch:
    """Makes a watch, as a new process would."""
    ids = count()

    async def open_log() -> EventLog:
        return log

    def make(
        open_log: Callable[[], Awaitable[EventLog]] = open_log, days: int = 0
    ) -> DirectoryWatch:
        return DirectoryWatch(
            folder,
            ledger=Ledger(),
            open_log=open_log,
            store=store,
            clock=clock,
            new_id=lambda: id_of(f"change {next(ids)}"),
            retention=timedelta(days=days) if days else None,
        )

    return make


def grant(name: str, **spec: Any) -> str:
    base = {"serverRef": {"name": "srv"}, "subject": {"agentID": "a"}}
    return yaml.safe_dump(
        {
            "apiVersion": "mcpruntime.org/v1alpha1",
            "kind": "MCPAccessGrant",
            "metadata": {"name": name, "namespace": "ns"},
            "spec": base | spec,
        }
    )


async def test_edits_are_recorded_once(
    watch: Watch, history: History, folder: Path, clock: Clock
) -> None:
    """Made, changed and deleted objects, each with what was before and after."""
    file, watching = folder / "a.yaml", watch()
    file.write_text(grant("a") + "---\n" + grant("b"))
    os.utime(file, (NOON.timestamp() - 60,) * 2)
    await watching.look()
    await watching.look()
    assert await history.changes() == [("created", "a", True), ("created", "b", True)]
    told = await history.last()
    assert (told.actor, told.file, told.modified_at) == (
        "file",
        "a.yaml",
        "2026-11-22T11:59:00.000Z",
    )
    assert told.server == "srv"
    clock.now += 1
    file.write_text(grant("a", disabled=True))
    await watching.look()
    changed, deleted = (await history.changes())[2:]
    assert (changed, deleted) == (("changed", "a", True), ("deleted", "b", False))
    clock.now += 1
    file.write_text(grant("a"))
    await watching.look()
    told = await history.last()
    assert told.before is not None
    assert told.after is not None
    assert (told.before["spec"]["disabled"], "disabled" in told.after["spec"]) == (True, False)


async def test_edits_made_while_nothing_ran_are_recorded_at_the_start(
    watch: Watch, history: History, folder: Path, clock: Clock
) -> None:
    """With the time they were noticed; what is as it was is not told again."""
    (folder / "a.yaml").write_text(grant("a"))
    (folder / "b.yaml").write_text(grant("b"))
    await watch().look()
    await history.catch_up()
    (folder / "a.yaml").write_text(grant("a", maxTrust="high"))
    (folder / "b.yaml").unlink()
    clock.now += 3600
    await watch().look()
    assert (await history.changes())[2:] == [("changed", "a", True), ("deleted", "b", False)]


async def test_what_the_store_gets_late_is_corrected(
    watch: Watch, history: History, folder: Path, clock: Clock
) -> None:
    """After a crash, a change that was still in the log becomes known, and is then undone."""
    file = folder / "a.yaml"
    file.write_text(grant("a"))
    first = watch()
    await first.look()
    await history.catch_up()
    clock.now += 1
    file.write_text(grant("a", disabled=True))
    await first.look()  # dies; the store does not have this yet
    file.write_text(grant("a"))
    second = watch()
    clock.now += 1
    await second.look()
    assert [action for action, *_ in await history.changes()] == ["created", "changed"]
    clock.now += COMPARE_SECONDS
    await second.look()
    told = await history.last()
    assert told.after is not None
    assert "disabled" not in told.after["spec"]


@pytest.mark.parametrize("broken", ["kind: [", "", grant("a", maxTrust="huge")])
async def test_a_broken_file_changes_nothing(
    watch: Watch, history: History, folder: Path, broken: str
) -> None:
    """As at the decision point, where its last good objects go on to count."""
    file, watching = folder / "a.yaml", watch()
    file.write_text(grant("a"))
    await watching.look()
    file.write_text(broken)
    await watching.look()
    await watch().look()
    assert await history.changes() == [("created", "a", True)]
    file.unlink()
    await watching.look()
    assert (await history.changes())[1:] == [("deleted", "a", False)]


async def test_a_second_object_of_the_same_name_leaves_it_as_it_was(
    watch: Watch, history: History, folder: Path
) -> None:
    """As at the decision point. All others count."""
    watching = watch()
    (folder / "a.yaml").write_text(grant("a"))
    await watching.look()
    (folder / "b.yaml").write_text(grant("a", disabled=True) + "---\n" + grant("b"))
    await watching.look()
    assert await history.changes() == [("created", "a", True), ("created", "b", True)]


async def test_while_the_log_is_away_nothing_is_forgotten(
    watch: Watch, history: History, folder: Path, log: SqliteLog
) -> None:
    """The next look records what the last one could not."""
    answers: list[Exception] = [Retryable("the log is away")]

    async def open_log() -> EventLog:
        if answers:
            raise answers.pop()
        return log

    watching = watch(open_log)
    (folder / "a.yaml").write_text(grant("a"))
    await watching.look()
    assert await history.changes() == []
    await watching.look()
    assert await history.changes() == [("created", "a", True)]


async def test_what_does_not_change_is_told_again_before_the_store_forgets_it(
    watch: Watch, history: History, folder: Path, clock: Clock
) -> None:
    """Twice in the time that events are kept."""
    watching = watch(days=2)
    (folder / "a.yaml").write_text(grant("a"))
    await watching.look()
    clock.now += timedelta(hours=20).total_seconds()
    await watching.look()
    clock.now += timedelta(hours=5).total_seconds()
    await watching.look()
    assert await history.changes() == [("created", "a", True), ("confirmed", "a", True)]


async def test_the_unit_sees_an_edit_and_stops(
    watch: Watch, history: History, folder: Path
) -> None:
    """It looks as it starts; a directory that comes and goes does not end it."""
    (folder / "a.yaml").write_text(grant("a"))
    stop, ready = asyncio.Event(), asyncio.Event()
    unit = asyncio.create_task(watch().run(stop, ready.set))

    async def told(count: int) -> None:
        async def are_there() -> bool:
            return len(await history.changes()) >= count

        await soon(are_there, f"{count} changes")

    await ready.wait()
    await told(1)
    assert await history.changes() == [("created", "a", True)]
    (folder / "a.yaml").write_text(grant("a", disabled=True))
    await told(2)
    folder.rename(folder.with_name("away"))
    await asyncio.sleep(0.1)
    folder.with_name("away").rename(folder)
    (folder / "a.yaml").write_text(grant("a", maxTrust="high"))
    await told(3)
    stop.set()
    await unit
