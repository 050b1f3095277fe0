"""Changes made over HTTP: recorded once, in order, whatever becomes of the log or the process."""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import yaml

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.sqlite_log import SqliteLog
from backend.history.delivery import Delivery
from backend.history.ledger import Ledger
from backend.history.outbox import Outbox
from backend.history.recorder import ANSWER_SECONDS, Recorder
from backend.history.watch import DirectoryWatch
from backend.ports.event_log import RESENT_HEADER, Assignment, EventLog, Message, Record
from extauthz.core.errors import Busy, Invalid, Retryable
from extauthz.core.governance import Action, Change, Key
from extauthz.core.resources import parse_object
from extauthz.core.writing import Object, to_object
from tests.tools.event_ids import id_of
from tests.tools.event_rows import NOON
from tests.tools.log_thread import LogThread
from tests.tools.waiting import eventually

CHILD = Path(__file__).with_name("recorder_child.py")
KEPT = 20


def grant(**spec: Any) -> Object:
    return to_object(
        parse_object(
            {
                "apiVersion": "mcpruntime.org/v1alpha1",
                "kind": "MCPAccessGrant",
                "metadata": {"name": "g", "namespace": "ns"},
                "spec": {"serverRef": {"name": "srv"}, "subject": {"agentID": "a"}} | spec,
            }
        )
    )


def change(before: Object | None, after: Object | None, name: str = "g") -> Change:
    action = Action.CHANGED if before and after else Action.CREATED if after else Action.DELETED
    return Change(Key("MCPAccessGrant", "ns", name), action, "ada", "srv", before, after)


ON, OFF = grant(), grant(disabled=True)


class Owner:
    """Takes every partition."""

    async def assigned(self, assignment: Assignment) -> None: ...

    async def revoked(self) -> None: ...


class Part:
    """The recorder, its parts, and what the log has got."""

    def __init__(self, folder: Path, thread: LogThread, log: SqliteLog) -> None:
        self.folder, self.thread, self.log = folder, thread, log
        self.faults: list[Exception] = []  # of the next attempts to reach the log
        self.late_faults: list[Exception] = []  # after the log took what was sent
        self.ids, self.answer_seconds = count(), ANSWER_SECONDS
        self.is_slow = threading.Event()
        self.consumer = log.consumer("test")
        thread.run(self.consumer.start(Owner()))
        self.open()

    def open(self) -> None:
        """As a new process would."""
        self.ledger, self.outbox = Ledger(), Outbox(self.folder / "outbox.db", NOON.timestamp)
        self.delivery = Delivery(self.outbox, self.opened)
        self.recorder = Recorder(
            ledger=self.ledger,
            outbox=self.outbox,
            delivery=self.delivery,
            loop=self.thread.loop,
            clock=NOON.timestamp,
            new_id=lambda: id_of(f"change {next(self.ids)}"),
            answer_seconds=self.answer_seconds,
        )

    async def opened(self) -> EventLog:
        if self.is_slow.is_set():
            await asyncio.Event().wait()  # until nobody waits for it
        if self.faults:
            raise self.faults.pop(0)
        return Faulty(self.log, self.late_faults) if self.late_faults else self.log

    def deliver(self) -> None:
        """One run of the unit, from start to stop."""

        async def once() -> None:
            stop = asyncio.Event()
            stop.set()
            await self.delivery.run(stop, lambda: None)

        self.thread.run(once())

    def records(self) -> Sequence[Record]:
        found: Sequence[Record] = self.thread.run(self.consumer.fetch(1000, 0.01))
        return found

    def told(self) -> list[tuple[str, str]]:
        """Producer and action of what came into the log since the last look."""
        envelopes = [json.loads(record.value) for record in self.records()]
        return [(each["producer"], each["payload"]["action"]) for each in envelopes]


class Faulty:
    """A log that takes what it is sent and then fails to say so."""

    def __init__(self, log: EventLog, faults: list[Exception]) -> None:
        self._log, self._faults = log, faults

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    async def append(self, messages: Sequence[Message]) -> None:
        await self._log.append(messages)
        raise self._faults.pop()


@pytest.fixture
def part(tmp_path: Path, thread: LogThread, kept: SqliteLog) -> Part:
    return Part(tmp_path, thread, kept)


def away() -> Retryable:
    return Retryable("the log is away")


def test_a_change_is_in_the_log_when_record_returns(part: Part) -> None:
    """With who made it, what was before and what is after."""
    part.recorder.check()
    part.recorder.record(change(OFF, ON))
    (record,) = part.records()
    told = json.loads(record.value)
    payload = told["payload"]
    assert (told["event_type"], told["source"]) == ("governance.change", "sentinel")
    assert (payload["actor"], payload["before"], payload["after"]) == ("ada", OFF, ON)
    assert not record.headers


def test_while_the_log_is_away_a_change_that_must_wait_is_refused(part: Part) -> None:
    """With the mend; a log that can never be opened is no different."""
    for error in (away(), Busy("it is full"), Invalid("EVENT_LOG_URL", "is not set")):
        part.faults = [error, error]
        for ask in (part.recorder.check, lambda: part.recorder.record(change(OFF, ON))):
            with pytest.raises(Retryable, match="what only takes rights away is done without"):
                ask()
    part.deliver()
    assert part.told() == []
    assert part.ledger.last() == {}


def test_a_refused_change_that_the_log_may_have_is_told_back(part: Part) -> None:
    """The log did not answer in time; what comes after says how it stands."""
    part.outbox.close()
    part.answer_seconds = 0.05
    part.open()
    part.is_slow.set()
    with pytest.raises(Retryable, match="does not answer"):
        part.recorder.record(change(OFF, ON))
    part.is_slow.clear()
    part.deliver()
    (record,) = part.records()
    told = json.loads(record.value)["payload"]
    assert (told["actor"], told["before"], told["after"]) == ("sentinel", ON, OFF)


def test_what_was_not_made_is_told_back(part: Part) -> None:
    """Of a new object: that it is not there."""
    made = change(None, ON)
    part.recorder.record(made)
    part.recorder.correct(made, None)
    part.deliver()
    assert part.told() == [("api", "created"), ("api", "deleted")]


def test_what_need_not_wait_is_delivered_later(part: Part) -> None:
    """In the order of the changes, before what comes after."""
    part.faults = [away()]
    part.recorder.record_later(change(ON, OFF))
    part.deliver()
    part.recorder.record_later(change(OFF, None))
    assert part.outbox.count() == 2
    assert part.told() == []
    part.recorder.record(change(None, ON))
    assert part.told() == [("api", "changed"), ("api", "deleted"), ("api", "created")]
    part.deliver()
    assert part.told() == []


def test_times_say_the_order(part: Part) -> None:
    """Though the clock stands still."""
    for before, after in ((None, ON), (ON, OFF), (OFF, ON), (ON, None)):
        part.recorder.record(change(before, after))
    times = [json.loads(record.value)["timestamp"] for record in part.records()]
    assert times == sorted(set(times))


def test_what_the_log_may_have_is_sent_as_resent(part: Part) -> None:
    """With its id: so it is stored once."""
    part.late_faults = [away()]
    part.recorder.record_later(change(ON, OFF))
    part.deliver()
    part.deliver()
    first, second = part.records()
    assert json.loads(first.value) == json.loads(second.value)
    assert not first.headers
    assert dict(second.headers) == {RESENT_HEADER: b"1"}


def test_the_unit_delivers_as_soon_as_it_can(part: Part) -> None:
    """It is ready although the log is away."""
    part.faults = [away(), away()]
    stop, ready = asyncio.Event(), asyncio.Event()
    running = asyncio.run_coroutine_threadsafe(part.delivery.run(stop, ready.set), part.thread.loop)
    part.thread.run(ready.wait())
    part.recorder.record_later(change(ON, OFF))
    assert eventually(part.told, "the change is told") == [("api", "changed")]
    part.thread.loop.call_soon_threadsafe(stop.set)
    running.result(60)


def test_an_outbox_that_takes_nothing_holds_no_right_back(
    part: Part, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged with who did it, counted and answered; the watch records the change then."""
    part.outbox.close()
    assert math.isnan(part.outbox.count())
    assert "look at the disk of CHANGE_OUTBOX" in part.recorder.record_later(change(ON, OFF))
    assert part.outbox.lost == 1
    assert "not recorded as its maker's" in caplog.text
    assert part.ledger.last() == {}


def test_an_outbox_that_cannot_be_opened_stops_the_start(tmp_path: Path) -> None:
    """With the setting's name."""
    with pytest.raises(Invalid, match=r"CHANGE_OUTBOX: .*name a file on a local disk"):
        Outbox(tmp_path, NOON.timestamp)


@pytest.mark.parametrize("value", [b"garbage", b"[]", b"null", b"{}", b'{"timestamp": 3}'])
def test_a_kept_record_that_nobody_can_read_stops_no_start(
    part: Part, caplog: pytest.LogCaptureFixture, value: bytes
) -> None:
    """The others count, and it goes where everybody can see it: to the log."""
    part.recorder.record_later(change(ON, OFF))
    part.outbox.put(Message(value, b"governance"))
    part.outbox.close()
    part.open()
    assert "a kept record cannot be read" in caplog.text
    assert len(part.ledger.last()) == 1
    part.deliver()
    assert [record.value for record in part.records()][1:] == [value]


def test_what_was_kept_survives_kill_9(part: Part) -> None:
    """In order; each is sent once."""
    child = subprocess.Popen(
        [sys.executable, str(CHILD), str(part.folder / "outbox.db"), str(KEPT)],
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    )
    assert child.stdout is not None
    for _ in range(KEPT):
        child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    part.open()
    part.deliver()
    records = part.records()
    told = [json.loads(record.value)["payload"]["name"] for record in records]
    assert told == [f"g{number}" for number in range(KEPT)]
    assert not any(record.headers for record in records)
    part.deliver()
    assert part.records() == []


def test_what_was_sent_when_the_process_died_is_marked(part: Part) -> None:
    """For nobody knows whether the log has it."""
    part.recorder.record_later(change(ON, OFF))
    part.outbox.trying(part.outbox.waiting())
    part.open()
    part.deliver()
    (record,) = part.records()
    assert dict(record.headers) == {RESENT_HEADER: b"1"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "access"
    made.mkdir()
    return made


@pytest.fixture
def look(part: Part, folder: Path, emptied: ClickHouseStore) -> Callable[[], None]:
    """One look of the watch beside the recorder."""
    made: dict[Ledger, DirectoryWatch] = {}

    def looked() -> None:
        if part.ledger not in made:
            made[part.ledger] = DirectoryWatch(
                folder,
                ledger=part.ledger,
                open_log=part.opened,
                store=emptied,
                clock=NOON.timestamp,
                new_id=lambda: id_of(f"watched {next(part.ids)}"),
                retention=None,
            )
        look: Awaitable[None] = made[part.ledger].look()
        part.thread.run(look)

    return looked


def write(folder: Path, written: Object | None) -> None:
    file = folder / "g.yaml"
    if written is None:
        file.unlink()
    else:
        file.write_text(yaml.safe_dump(written))


def test_the_watch_does_not_record_it_again(
    part: Part, folder: Path, look: Callable[[], None]
) -> None:
    """Neither what it finds, nor what has gone; nor after a start at once."""
    part.recorder.record(change(None, ON))
    write(folder, ON)
    look()
    part.recorder.record_later(change(ON, OFF))
    write(folder, OFF)
    look()
    part.deliver()
    part.open()  # the store has none of it
    look()
    assert part.told() == [("api", "created"), ("api", "changed")]
    part.recorder.record(change(OFF, None))
    write(folder, None)
    look()
    assert part.told() == [("api", "deleted")]


def test_while_a_change_is_made_the_watch_leaves_the_object_alone(
    part: Part, folder: Path, look: Callable[[], None]
) -> None:
    """Recorded and not yet written, it would seem undone."""
    with part.recorder.editing(Key("MCPAccessGrant", "ns", "g")):
        part.recorder.record(change(None, ON))
        look()
        write(folder, ON)
    look()
    assert part.told() == [("api", "created")]


def test_what_was_recorded_and_not_made_is_put_right(
    part: Part, folder: Path, look: Callable[[], None]
) -> None:
    """The write failed: the watch tells what stands there."""
    write(folder, ON)
    look()
    assert part.told() == [("directory-watch", "created")]
    part.recorder.record(change(ON, OFF))
    look()
    last = json.loads(part.records()[-1].value)
    assert (last["producer"], last["payload"]["after"]) == ("directory-watch", ON)
    look()
    assert part.told() == []
