"""`sentinel dlq`, against the real api over a real log."""

import asyncio
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from backend.adapters.sqlite_log import SqliteLog
from backend.api.app import create_app
from backend.api.letters import DeadLetters
from backend.auth.api_keys import ApiKeys, from_lists
from backend.cli.console import FAILED
from backend.cli.dlq import age, readable
from backend.cli.main import sentinel
from backend.metrics import ApiMetrics, new_registry
from backend.ports.event_log import EventLog
from backend.serving import WsgiUnit
from tests.tools.log_thread import LogThread
from tests.tools.told_cluster import told_runtime
from tests.tools.waiting import SECONDS

Run = Callable[..., Result]


@pytest.fixture
def dlq(thread: LogThread, kept: SqliteLog, tmp_path: Path) -> Iterator[Run]:
    """Runs `sentinel dlq …` against an api."""

    async def opened() -> EventLog:
        return kept

    app = create_app(
        store=None,  # type: ignore[arg-type]  # nobody asks for events
        changes=None,  # type: ignore[arg-type]  # nothing is changed here
        runtime=told_runtime(letters=DeadLetters(opened, thread.loop)),
        verifier=ApiKeys(from_lists([], ["admin"], [])),
        access=None,  # type: ignore[arg-type]  # nobody asks for grants
        metrics=ApiMetrics(new_registry()),
        clock=lambda: datetime.now(UTC),
        retention=None,
    )
    unit, stop, ready = WsgiUnit("api", app, "127.0.0.1", 0), asyncio.Event(), asyncio.Event()
    running = asyncio.run_coroutine_threadsafe(unit.run(stop, ready.set), thread.loop)
    thread.run(ready.wait())
    key = tmp_path / "key"
    key.write_text("admin\n")

    def run(*words: str, answer: str | None = None) -> Result:
        where = ["--api", f"http://127.0.0.1:{unit.port}/", "--key-file", str(key)]
        return CliRunner().invoke(sentinel, ["dlq", *words, *where], input=answer)

    yield run
    thread.loop.call_soon_threadsafe(stop.set)
    running.result(SECONDS)


def ids(dlq: Run) -> list[str]:
    return [each["id"] for each in json.loads(dlq("list", "--json").stdout)]


def test_letters_are_listed_with_age_and_reason(dlq: Run, set_aside: Any) -> None:
    """A caller's strings cannot reach the terminal; a cut list says so."""
    assert dlq("list").stdout == "no dead letters\n"
    first = set_aside(1, b"12345", "event_id: `\x1b[2J` is no UUID; send one")
    set_aside(2)
    shown = dlq("list", "--limit", "1")
    heading, line = shown.stdout.splitlines()
    assert heading.split() == ["ID", "AGE", "BYTES", "REASON"]
    assert line.split()[::2][:2] == [first, "5"]
    assert "`\\x1b[2J` is no UUID" in line
    assert "there are more" in shown.stderr


def test_a_letter_is_shown_with_its_bytes(dlq: Run, set_aside: Any) -> None:
    """What cannot be printed is an escape; --json has the bytes."""
    text = dlq("show", set_aside(1, b'{"a":\n"\x1b]0;x\x07"}')).stdout
    assert text.endswith('{"a":\n"\\x1b]0;x\\x07"}\n')
    assert "traceparent: 00-1" in text
    letter = set_aside(2, b"\xff\x00a")
    assert "\\xff\\x00a" in dlq("show", letter).stdout
    assert json.loads(dlq("show", letter, "--json").stdout)["value_base64"] == "/wBh"


@pytest.mark.parametrize(("word", "said"), [("retry", "sent again"), ("drop", "dropped")])
def test_some_or_all_are_changed(dlq: Run, set_aside: Any, word: str, said: str) -> None:
    """By id, or all of them once that is confirmed; one that is gone is an error."""
    letters = [set_aside(offset) for offset in range(5)]
    done = dlq(word, letters[1])
    assert (done.exit_code, done.stdout) == (0, f"{said}: {letters[1]}\n")
    gone = dlq(word, letters[1])
    assert (gone.exit_code, gone.stdout) == (FAILED, "")
    assert "answered 404" in gone.stderr
    some = dlq(word, letters[1], letters[2], "--json")
    assert json.loads(some.stdout) == {"done": [letters[2]]}
    assert dlq(word, "--all", answer="n\n").exit_code == FAILED
    assert ids(dlq) == [letters[0], letters[3], letters[4]]
    assert dlq(word, "--all", answer="y\n").stdout.count(said) == 3
    assert dlq(word, "--all", "--yes").stdout == "no dead letters\n"


def test_more_than_a_page_is_changed_too(
    dlq: Run, set_aside: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All means all."""
    monkeypatch.setattr("backend.cli.dlq.PAGE", 2)
    for offset in range(5):
        set_aside(offset)
    assert len(json.loads(dlq("drop", "--all", "--yes", "--json").stdout)["done"]) == 5
    assert ids(dlq) == []


@pytest.mark.parametrize("words", [["retry"], ["drop", "--all", "x"]])
def test_either_some_or_all_must_be_named(dlq: Run, words: list[str]) -> None:
    """A slip changes nothing."""
    result = dlq(*words)
    assert result.exit_code == 2
    assert "or all of them with --all" in result.stderr


def test_a_wrong_id_is_one_line(dlq: Run) -> None:
    """With the mend."""
    result = dlq("show", "7")
    assert result.exit_code == FAILED
    assert result.stderr.count("\n") == 1
    assert "write it as `sentinel dlq list` shows it" in result.stderr


@pytest.mark.parametrize(("seconds", "shown"), [(5, "5s"), (119, "1m"), (7200, "2h"), (1e6, "11d")])
def test_ages_have_one_unit(seconds: float, shown: str) -> None:
    """Short, since they stand in a table."""
    assert age("1970-01-01T00:00:00Z", seconds) == shown


def test_text_is_shown_as_it_is() -> None:
    """Letters of every script are printable; direction marks are not."""
    assert readable({"value": "häß 漢\u202e"}) == "häß 漢\\u202e"
