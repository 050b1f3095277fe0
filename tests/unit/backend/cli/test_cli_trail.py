"""`sentinel events` and its kin against the real api."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result
from flask import Flask

from backend.adapters.clickhouse_store import ClickHouseStore
from backend.adapters.directory import DirectoryStore
from backend.api.app import create_app
from backend.api.filters import TEXTS
from backend.auth.api_keys import ApiKeys, from_lists
from backend.cli.events import FILTERS
from backend.cli.main import sentinel
from backend.metrics import ApiMetrics, new_registry
from backend.serving import WsgiUnit
from tests.tools.event_rows import NOON, event_id, row
from tests.tools.log_thread import LogThread
from tests.tools.told_cluster import told_runtime
from tests.tools.waiting import SECONDS

MEMBERS = (
    "server", "namespace", "cluster", "team_id", "human_id", "agent_id", "session_id", "decision",
    "reason", "tool_name", "request_id",
)  # fmt: skip
OURS = dict.fromkeys(MEMBERS, "x")
ENVELOPE = {"source": "x", "trace_id": "x", "producer": "x"}

Run = Callable[..., Result]


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The api over two events: one that has `x` everywhere, and a later one that has nothing."""
    folder = tmp_path_factory.mktemp("trail")
    (folder / "access").mkdir()
    store = ClickHouseStore(f"chdb://{folder / 'store'}")
    store.migrate()
    store.insert([row(2, OURS, "x", **ENVELOPE), row(1)])
    app = create_app(
        store=store,
        access=DirectoryStore(folder / "access"),
        changes=None,  # type: ignore[arg-type]  # nothing is changed here
        runtime=told_runtime(),
        verifier=ApiKeys(from_lists([], ["secret"], [])),
        metrics=ApiMetrics(new_registry()),
        clock=lambda: NOON,
        retention=None,
    )
    with served(app) as port:
        yield f"http://127.0.0.1:{port}"
    store.close()


@contextmanager
def served(app: Flask) -> Iterator[int]:
    thread, stop, ready = LogThread(), asyncio.Event(), threading.Event()
    unit = WsgiUnit("api", app, "127.0.0.1", 0)
    running = asyncio.run_coroutine_threadsafe(unit.run(stop, ready.set), thread.loop)
    assert ready.wait(SECONDS)
    yield unit.port
    thread.loop.call_soon_threadsafe(stop.set)
    running.result(SECONDS)
    thread.stop()


@pytest.fixture
def run(url: str, tmp_path: Path) -> Run:
    key = tmp_path / "key"
    key.write_text("secret\n")

    def run(*words: str) -> Result:
        return CliRunner().invoke(sentinel, [*words, "--api", url, "--key-file", str(key)])

    return run


def test_every_filter_of_the_api_is_an_option() -> None:
    """Under the api's own names."""
    assert {name for _, name, _ in FILTERS} == {each.name for each in TEXTS}


@pytest.mark.parametrize("option", [option for option, _, _ in FILTERS])
def test_filters_apply(run: Run, option: str) -> None:
    """Each by itself finds its own event; a blank one is refused."""
    assert run("events", option, "x", "-o", "name").output.split() == [event_id(2)]
    assert run("events", option, "y", "-o", "name").output == ""
    assert run("events", option, " ").exit_code == 2


def test_times_and_limits_apply(run: Run) -> None:
    """Together with filters."""
    assert run("events", "-o", "name").output.split() == [event_id(2), event_id(1)]
    assert run("events", "-o", "name", "--limit", "1").output.split() == [event_id(1)]
    assert run("events", "-o", "name", "--since", "90s").output.split() == [event_id(1)]
    assert run("events", "-o", "name", "--until", "90s").output.split() == [event_id(2)]
    assert run("events", "--agent", "x", "--since", "90s", "-o", "name").output == ""


@pytest.mark.parametrize(
    "words",
    [("--since", "soon"), ("--limit", "0"), ("--follow", "--until", "1h"), ("-o", "xml")],
)
def test_what_is_asked_wrongly(run: Run, words: tuple[str, ...]) -> None:
    """A usage error, before the api is asked."""
    assert run("events", *words).exit_code == 2


def test_forms(run: Run) -> None:
    """JSON a line each, YAML a document each, a table with a heading."""
    lines = run("events", "--json").output.splitlines()
    assert [json.loads(line)["event_id"] for line in lines] == [event_id(2), event_id(1)]
    assert run("events", "-o", "json").output.splitlines() == lines
    documents = yaml.safe_load_all(run("events", "-o", "yaml").output)
    assert [each["event_id"] for each in documents] == [event_id(2), event_id(1)]
    assert "DECISION" in run("events").output


def test_completeness(run: Run) -> None:
    """No gateway numbers these events: nothing is named, and nothing is wrong."""
    named = run("audit", "completeness", "-o", "name")
    assert (named.exit_code, named.output) == (0, "")
    assert json.loads(run("audit", "completeness", "--json").output)["verdict"] == "complete"


def test_an_explanation_of_what_is_no_call(run: Run) -> None:
    """The api's own words, in a line."""
    told = run("explain", event_id(1))
    assert told.exit_code == 1
    assert told.output.startswith("error: ")
    assert "tells no decision that can be explained" in told.output


def test_status_of_a_deployment(run: Run) -> None:
    """The components as the api tells of them; what is not deployed is no fault."""
    told = run("status")
    assert told.exit_code == 0
    heading, *rows = told.output.splitlines()
    assert heading.split() == ["COMPONENT", "NAMESPACE", "RESOURCE", "STATUS", "DETAILS"]
    row = ["Ingest", "-", "Task/backend/ingest", "Ready", "1/1;", "version", "1.2.3"]
    assert rows[0].split() == row
    assert run("status", "-o", "name").output.split()[:2] == ["ingest", "processor"]
    listed = json.loads(run("status", "--json").output)["components"]
    assert [each["key"] for each in listed] == run("status", "-o", "name").output.split()
