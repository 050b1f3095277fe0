"""`sentinel replay` between a real log and a real store, in processes of its own."""

import json
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.sqlite_log import SqliteLog
from backend.ports.event_log import Message
from backend.queries import EventFilter
from tests.tools.event_ids import id_of, name_of
from tests.tools.waiting import eventually


def envelope(name: str, **members: Any) -> bytes:
    return orjson.dumps(
        {
            "event_id": id_of(name),
            "timestamp": "2026-11-22T12:00:00Z",
            "source": "s",
            "event_type": "mcp.request",
            "payload": {},
        }
        | members
    )


def command(folder: Path, target: Path) -> list[str]:
    program = "from backend.cli.main import sentinel; sentinel()"
    source = f"sqlite://{folder / 'log.db'}"
    to = f"chdb://{target}"
    return [sys.executable, "-c", program, "replay", "--from", source, "--to", to]


def run(folder: Path, target: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*command(folder, target), "--json"], capture_output=True, text=True, check=False
    )


def ids(target: Path) -> list[str]:
    store = ClickHouseStore(f"chdb://{target}")
    try:
        return sorted(name_of(event.event_id) for event in store.page(EventFilter(), 9999).events)
    finally:
        store.close()


async def fill(log: SqliteLog, names: Sequence[str]) -> None:
    await log.append([Message(envelope(name)) for name in names])


async def test_a_fresh_store_is_filled_and_half_filled_one_completed(
    log: SqliteLog, tmp_path: Path
) -> None:
    """Everything in the log is stored once; poison is listed; the log stays as it is."""
    target = tmp_path / "fresh"
    names = [f"e{n:03}" for n in range(300)]
    await fill(log, names)
    await log.append([Message(b"junk")])
    ended = run(tmp_path, target)
    told = json.loads(ended.stdout)
    assert ended.returncode == 1  # a record was not read
    assert (told["read"], told["stored"], told["never_to_be_stored"]) == (301, 300, 1)
    (letter,) = told["dead_letters"]
    assert letter["id"].endswith(":0:301")
    assert "not JSON" in letter["reason"]
    assert ids(target) == names

    await fill(log, ["later"])
    told = json.loads(run(tmp_path, target).stdout)
    assert (told["stored"], told["already_there"]) == (1, 300)
    assert ids(target) == [*names, "later"]
    with sqlite3.connect(tmp_path / "log.db") as reader:
        assert reader.execute("SELECT count(*) FROM groups").fetchone() == (0,)
        assert reader.execute("SELECT count(*) FROM dead_letters").fetchone() == (0,)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
async def test_what_was_ended_half_way_goes_on(
    log: SqliteLog, tmp_path: Path, number: signal.Signals, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed or interrupted in the middle, the same command completes it, each event once."""
    target = tmp_path / "fresh"
    names = [f"e{n:05}" for n in range(3000)]
    await fill(log, names)
    monkeypatch.setenv("BATCH_SIZE", "3")  # so that there is a middle
    process = subprocess.Popen(command(tmp_path, target), stdout=subprocess.PIPE, text=True)
    eventually(lambda: list(target.glob("store/*/*/202611*")), "the first part", every=0.01)
    assert process.poll() is None
    process.send_signal(number)
    process.communicate()
    monkeypatch.setenv("BATCH_SIZE", "1000")
    told = json.loads(run(tmp_path, target).stdout)
    assert 0 < told["already_there"] < 3000
    assert told["stored"] + told["already_there"] == 3000
    assert ids(target) == names


async def test_an_export_adds_what_is_missing(log: SqliteLog, tmp_path: Path) -> None:
    """Events that came from the log before are known by their ids, though the positions differ."""
    target = tmp_path / "fresh"
    await fill(log, ["a", "b"])
    run(tmp_path, target)
    export = tmp_path / "export.ndjson"
    export.write_bytes(b"\n".join(envelope(name) for name in ("b", "c", "c", "a")))
    arguments = [*command(tmp_path, target), "--json"]
    arguments[arguments.index("--from") + 1] = str(export)
    for stored, copies, present in ((1, 3, 0), (0, 3, 1)):
        ended = subprocess.run(arguments, capture_output=True, text=True, check=False)
        assert ended.returncode == 0, ended.stderr
        told = json.loads(ended.stdout)
        assert (told["stored"], told["copies_of_others"], told["already_there"]) == (
            stored,
            copies,
            present,
        )
    assert ids(target) == ["a", "b", "c"]


async def test_a_store_that_another_process_owns_is_refused(log: SqliteLog, tmp_path: Path) -> None:
    """One line that says so, and what to do."""
    await fill(log, ["a"])
    target = tmp_path / "owned"
    hold = f"""
from backend.adapters.clickhouse_store import ClickHouseStore
store = ClickHouseStore("chdb://{target}")
print("open", flush=True)
input()
"""
    pipe = subprocess.PIPE
    owner = subprocess.Popen([sys.executable, "-c", hold], stdin=pipe, stdout=pipe, text=True)
    try:
        assert owner.stdout is not None
        assert owner.stdout.readline() == "open\n"
        ended = run(tmp_path, target)
    finally:
        owner.communicate("\n")
    assert ended.returncode == 1
    assert "another process has it open" in ended.stderr
    assert "sentinel up" in ended.stderr


def test_errors_name_the_options(tmp_path: Path) -> None:
    """A log that does not exist is not made; a wrong target names its option."""
    ended = run(tmp_path, tmp_path / "store")
    assert ended.stderr.startswith("error: --from: ")
    assert not (tmp_path / "log.db").exists()
    (tmp_path / "log.db").touch()
    wrong = [*command(tmp_path, tmp_path)[:-1], "nowhere"]
    refused = subprocess.run(wrong, capture_output=True, text=True, check=False)
    assert refused.stderr.startswith("error: --to: ")
