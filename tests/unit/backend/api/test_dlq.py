"""Dead letters over HTTP, in a real log."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from flask.testing import FlaskClient

from backend.adapters.sqlite_log import SqliteLog
from backend.api.app import create_app
from backend.api.letters import DeadLetters
from backend.auth.api_keys import ApiKey, ApiKeys, from_lists
from backend.metrics import ApiMetrics, new_registry
from backend.ports.event_log import RESENT_HEADER, EventLog, Record
from extauthz.core.errors import Retryable
from tests.tools.log_thread import TOPIC, LogThread
from tests.tools.told_cluster import told_runtime

ADMIN = {"x-api-key": "admin"}


@pytest.fixture
def letters(thread: LogThread, kept: SqliteLog) -> DeadLetters:
    async def opened() -> EventLog:
        return kept

    return DeadLetters(opened, thread.loop)


def keys() -> list[ApiKey]:
    return from_lists(["user"], ["admin"], ["ingest"])


@pytest.fixture
def new_client() -> Callable[[DeadLetters | None], FlaskClient]:
    def made(letters: DeadLetters | None) -> FlaskClient:
        app = create_app(
            store=None,  # type: ignore[arg-type]  # nobody asks for events
            changes=None,  # type: ignore[arg-type]  # nothing is changed here
            runtime=told_runtime(letters=letters),
            verifier=ApiKeys(keys()),
            access=None,  # type: ignore[arg-type]  # nobody asks for grants
            metrics=ApiMetrics(new_registry()),
            clock=lambda: datetime.now(UTC),
            retention=None,
        )
        return app.test_client()

    return made


@pytest.fixture
def client(new_client: Any, letters: DeadLetters) -> FlaskClient:
    made: FlaskClient = new_client(letters)
    return made


@pytest.mark.parametrize("mount", ["/api", "/api/v1"])
def test_letters_are_listed_oldest_first(client: FlaskClient, set_aside: Any, mount: str) -> None:
    """A page at a time, with what names each, why and from when, without its content."""
    assert client.get(f"{mount}/dlq", headers=ADMIN).json == {"dead_letters": [], "next": ""}
    ids = [set_aside(offset, b"x" * offset) for offset in (7, 5, 9)]
    page = client.get(f"{mount}/dlq?limit=2", headers=ADMIN).json
    assert page["next"] == ids[1]
    assert page["dead_letters"] == [
        {
            "id": ids[0],
            "set_aside_at": "1970-01-01T00:16:40.000Z",
            "reason": "not JSON",
            "partition": 3,
            "offset": 7,
            "bytes": 7,
        },
        page["dead_letters"][1],
    ]
    rest = client.get(f"{mount}/dlq?limit=2&after={page['next']}", headers=ADMIN).json
    assert ([each["id"] for each in rest["dead_letters"]], rest["next"]) == ([ids[2]], "")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b'{"a":"\x1b[2J"}', {"value": '{"a":"\x1b[2J"}'}),
        (b"\xff\x00", {"value_base64": "/wA="}),
    ],
)
def test_a_letter_shows_its_original_bytes(
    client: FlaskClient, set_aside: Any, value: bytes, shown: dict[str, str]
) -> None:
    """As text where they are UTF-8, else in base64."""
    letter = client.get(f"/api/dlq/{set_aside(1, value)}", headers=ADMIN).json["dead_letter"]
    assert letter.items() >= shown.items()
    assert letter["headers"] == [["traceparent", "00-1"]]


def test_retrying_puts_it_back_into_the_log(
    client: FlaskClient,
    set_aside: Any,
    kept: SqliteLog,
    thread: LogThread,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Marked as resent; the letter is gone, and who did it is logged."""
    caplog.set_level(logging.WARNING)
    letter = set_aside(1, b'{"n":1}')
    answer = client.post(f"/api/dlq/{letter}/retry", headers=ADMIN)
    assert (answer.status_code, answer.json) == (200, {"success": True, "id": letter})

    async def read() -> list[Record]:
        consumer = kept.consumer("test")
        await consumer.start(Nobody())
        try:
            return list(await consumer.fetch(10, 5))
        finally:
            await consumer.stop()

    (record,) = thread.run(read())
    assert record.value == b'{"n":1}'
    assert RESENT_HEADER in dict(record.headers)
    assert client.post(f"/api/dlq/{letter}/retry", headers=ADMIN).status_code == 404
    (told,) = caplog.records
    assert (told.dead_letter, told.principal) == (letter, keys()[1].principal.name)


class Nobody:
    """Does not care about partitions."""

    async def assigned(self, assignment: Any) -> None: ...

    async def revoked(self) -> None: ...


def test_dropping_removes_it_for_good(client: FlaskClient, set_aside: Any) -> None:
    """The others stay."""
    first, second = set_aside(1), set_aside(2)
    assert client.delete(f"/api/dlq/{first}", headers=ADMIN).status_code == 200
    found = client.get("/api/dlq", headers=ADMIN).json["dead_letters"]
    assert [each["id"] for each in found] == [second]
    assert client.delete(f"/api/dlq/{first}", headers=ADMIN).status_code == 404


@pytest.mark.parametrize(
    ("method", "path"), [("GET", ""), ("GET", "/{}"), ("POST", "/{}/retry"), ("DELETE", "/{}")]
)
@pytest.mark.parametrize(("key", "status"), [("", 401), ("user", 403), ("ingest", 403)])
def test_who_may(
    client: FlaskClient, set_aside: Any, method: str, path: str, key: str, status: int
) -> None:
    """Only who reads or operates everywhere."""
    url = "/api/dlq" + path.format(set_aside(1))
    headers = {"x-api-key": key} if key else {}
    assert client.open(url, method=method, headers=headers).status_code == status


@pytest.mark.parametrize(
    ("path", "field", "mend"),
    [
        ("?limt=3", "limt", "did you mean `limit`?"),
        ("?limit=0", "limit", "write one of those"),
        ("?limit=1&limit=2", "limit", "give it once"),
        ("?limit=٣", "limit", "write one of those"),
        ("?after=1", "after", "write it as `sentinel dlq list` shows it"),
        (f"/{TOPIC}:1", "id", "write it as"),
        (f"/{TOPIC}:1:-2", "id", "write it as"),
        (f"/{TOPIC}:1:{10**19}", "id", "write it as"),
        ("/a:1:2", "id", "write it as"),
        (f"/{TOPIC}:1:2?raw=1", "raw", "known: none"),
    ],
)
def test_wrong_questions_name_the_field_and_the_mend(
    client: FlaskClient, path: str, field: str, mend: str
) -> None:
    """A problem document of strings."""
    answer = client.get(f"/api/dlq{path}", headers=ADMIN)
    problem = answer.get_json(force=True)
    assert (answer.status_code, problem["field"]) == (400, field)
    assert mend in problem["detail"]
    assert all(isinstance(member, str) for member in problem.values())


def test_an_unknown_letter_is_not_found(client: FlaskClient) -> None:
    """With the way to those that there are."""
    answer = client.get(f"/api/dlq/{uuid4()}:0:1", headers=ADMIN)
    assert answer.status_code == 404


def test_without_a_log_the_mend_is_told(new_client: Any) -> None:
    """An api on a cluster works without the log; its dead letters need it."""
    answer = new_client(None).get("/api/dlq", headers=ADMIN)
    assert answer.status_code == 404
    assert "set EVENT_LOG_URL" in answer.get_json(force=True)["detail"]


def test_a_log_that_is_away_is_told(new_client: Any, thread: LogThread) -> None:
    """503: it may work later; one that does not answer at all keeps nobody waiting for ever."""

    async def away() -> EventLog:
        raise Retryable("the log is away; start it")

    async def stuck() -> EventLog:
        await asyncio.Event().wait()
        raise AssertionError

    answer = new_client(DeadLetters(away, thread.loop)).get("/api/dlq", headers=ADMIN)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    answer = new_client(DeadLetters(stuck, thread.loop, 0.05)).get("/api/dlq", headers=ADMIN)
    assert answer.status_code == 503
    assert "does not answer" in answer.get_json(force=True)["detail"]
