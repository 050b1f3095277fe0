"""Every kind of bad input: a problem with a stable type, the field, and the mend."""

import json
from typing import Any

import pytest
from flask.testing import FlaskClient

from backend.api.bodies import MAX_BODY_BYTES
from backend.auth.failures import CountedFailures
from backend.metrics import ApiMetrics, AuthMetrics, new_registry
from backend.ports.event_store import EventStore
from extauthz.core.errors import Conflict, TooSlow, Unauthenticated
from tests.unit.backend.api.conftest import NewApp, callers

ADMIN = {"x-api-key": "admin"}
EXPLAIN = "/api/runtime/explain"
JSON = {"Content-Type": "application/json"}
TEXT = {"Content-Type": "text/plain"}
URN = "urn:mcp-sentinel:problem:"


class Store:
    """A store that answers everything with one error."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def __getattr__(self, name: str) -> Any:
        def refuse(*_given: object) -> Any:
            raise self.error

        return refuse


@pytest.fixture(scope="module")
def client(new_app: NewApp) -> FlaskClient:
    return new_app(Store(AssertionError("nothing was to be asked of the store"))).test_client()


QUERIES = [
    # path, type, field, mend
    ("events?limt=3", "invalid_query_param", "limt", "did you mean `limit`?"),
    ("events/filter?agent=x", "invalid_query_param", "agent", "did you mean `agent_id`?"),
    ("events?decison=deny", "invalid_query_param", "decison", "did you mean `decision`?"),
    ("stats?x=1", "invalid_query_param", "x", "known: none"),
    ("events?server=a&server=b", "invalid_query_param", "server", "give it once"),
    ("events?since=soon", "invalid_query_param", "since", "write it like 1h30m or"),
    ("events?since=1h&until=2h", "invalid_query_param", "since", "ask for an earlier `since`"),
    ("events?format=xml", "invalid_query_param", "format", "use one of json, ndjson, csv"),
    ("events?cursor=abc", "invalid_query_param", "cursor", "begin without one"),
    ("events?cursor=eyJvZmZzZXQiOjEwMH0", "invalid_query_param", "cursor", "begin without one"),
    (f"events?human_id={'x' * 1025}", "invalid_query_param", "human_id", "shorten it"),
    ("analytics/usage?window=month", "invalid_query_param", "window", "write it like 24h"),
    ("analytics/usage?window=9000h", "invalid_query_param", "window", "write it like 24h"),
    ("analytics/usage?windowdays=3", "invalid_query_param", "windowdays", "`window_days`?"),
    ("dlq?limit=0", "invalid_query_param", "limit", "write one of those"),
    ("dlq/1", "invalid_query_param", "id", "write it as `sentinel dlq list` shows it"),
    ("audit/completeness?since=1", "invalid_query_param", "since", "write it like"),
]


def problem_of(answer: Any, status: int, kind: str) -> dict[str, str]:
    """What a problem says; its form is checked."""
    assert (answer.status_code, answer.mimetype) == (status, "application/problem+json")
    problem: dict[str, str] = json.loads(answer.data)
    assert (problem["type"], problem["error"]) == (URN + kind, kind)
    assert all(isinstance(member, str) for member in problem.values())
    assert "status" not in problem
    assert problem["detail"] == problem["message"]
    assert {"type", "title", "detail"} <= set(problem)
    return problem


@pytest.mark.parametrize("mount", ["/api", "/api/v1"])
@pytest.mark.parametrize(("path", "kind", "field", "mend"), QUERIES)
def test_queries(
    client: FlaskClient, mount: str, path: str, kind: str, field: str, mend: str
) -> None:
    """Refused before anything is asked of the store."""
    problem = problem_of(client.get(f"{mount}/{path}", headers=ADMIN), 400, kind)
    assert problem["field"] == field
    assert mend in problem["mend"]
    assert problem["detail"].endswith(problem["mend"])


BODIES: list[tuple[bytes, dict[str, str], int, str, str, str]] = [
    (b"{}", TEXT, 415, "unsupported_media_type", "Content-Type", "send application/json"),
    (b"{}", {}, 415, "unsupported_media_type", "Content-Type", "send application/json"),
    (b"", JSON, 400, "invalid_json", "", "send one strict JSON object"),
    (b"{", JSON, 400, "invalid_json", "", "send one strict JSON object"),
    (b'{"a":1,"a":2}', JSON, 400, "invalid_json", "", "send one strict JSON object"),
    (b'{"server":{"name":"a","name":"b"}}', JSON, 400, "invalid_json", "", "send one strict"),
    (b'{"a":NaN}', JSON, 400, "invalid_json", "", "send one strict JSON object"),
    (b'{"a":"\xff"}', JSON, 400, "invalid_json", "", "send one strict JSON object"),
    (b"[" * 100 + b"]" * 100, JSON, 400, "invalid_json", "", "send one strict JSON object"),
    (b"[]", JSON, 400, "invalid_body", "", "write it as /api/docs says"),
    (b'{"servr":{"name":"a"}}', JSON, 400, "invalid_body", "servr", "did you mean `server`?"),
    (b'{"server":"a"}', JSON, 400, "invalid_body", "server", "write it as /api/docs says"),
    (b" " * (MAX_BODY_BYTES + 1), JSON, 413, "too_large", "", "send less"),
]  # fmt: skip


GRANT = "/api/runtime/grants/team-a/live"
NESTED = [
    ({"namespace": "team-b"}, "namespace", "known: allowedSideEffects, disabled, expiresAt"),
    ({"name": "x"}, "name", "known: allowedSideEffects"),
    ({"disabeld": True}, "disabeld", "did you mean `disabled`?"),
    ({"subject": {"agent": "x"}}, "subject.agent", "did you mean `agentID`?"),
    ({"toolRules": ["a:allow", {"nme": "x"}]}, "toolRules[1].nme", "did you mean `name`?"),
    ({"serverRef": {"name": "x", "cluster": "y"}}, "serverRef.cluster", "known: name, namespace"),
]


@pytest.mark.parametrize(("body", "field", "mend"), NESTED)
def test_members_that_are_not_known(client: FlaskClient, body: Any, field: str, mend: str) -> None:
    """The mend names those that may stand in that very place."""
    problem = problem_of(client.patch(GRANT, json=body, headers=ADMIN), 400, "invalid_body")
    assert (problem["field"], problem["mend"][: len(mend)]) == (field, mend)


@pytest.mark.parametrize(
    ("query", "headers", "field"),
    [
        ("?dryRun", {}, "dryRun"),
        ("?dryRun=%20", {}, "dryRun"),
        ("", {"If-Match": ""}, "If-Match"),
        ("", {"If-None-Match": " "}, "If-None-Match"),
    ],
)
def test_a_condition_that_is_left_blank(
    client: FlaskClient, query: str, headers: dict[str, str], field: str
) -> None:
    """A script's variable that is empty must not make a change of what was to be a trial."""
    answer = client.post(f"/api/runtime/grants{query}", json={}, headers=ADMIN | headers)
    assert problem_of(answer, 400, "invalid_query_param")["field"] == field


@pytest.mark.parametrize("path", ["/api/auth/me", "/api/runtime/grants", "/api/nothing", "/health"])
def test_answers_are_not_kept_or_guessed_at(client: FlaskClient, path: str) -> None:
    """Whatever they say."""
    for headers in (ADMIN, {}):
        answer = client.get(path, headers=headers)
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(("body", "headers", "status", "kind", "field", "mend"), BODIES)
def test_bodies(
    client: FlaskClient, body: bytes, headers: dict[str, str], status: int, kind: str, field: str,
    mend: str,
) -> None:  # fmt: skip
    """Too large, of another type, not strict JSON, or with members that are not known."""
    answer = client.post(EXPLAIN, data=body, headers=ADMIN | headers)
    problem = problem_of(answer, status, kind)
    assert problem.get("field", "") == field
    assert mend in problem["mend"]


NAMES = [
    ("GET", "/api/evens", 404, "not_found", "did you mean `/api/events`?"),
    ("GET", "/api/zzzzzzzzzzzzzzzzz", 404, "not_found", "/api/docs lists what there is"),
    ("GET", "/api/events/not-an-id", 404, "not_found", "ids are UUIDs"),
    ("GET", "/api/docs/x.js", 404, "not_found", "see /api/docs"),
    ("GET", "/api/dlq", 404, "not_found", "set EVENT_LOG_URL"),
    ("POST", "/api/stats", 405, "method_not_allowed", "use GET"),
    ("GET", "/api/auth/login", 405, "method_not_allowed", "use OPTIONS, POST"),
]


@pytest.mark.parametrize(("method", "path", "status", "kind", "mend"), NAMES)
def test_names(
    client: FlaskClient, method: str, path: str, status: int, kind: str, mend: str
) -> None:
    """What does not exist, and what would; a stranger is not told which paths exist."""
    problem = problem_of(client.open(path, method=method, headers=ADMIN), status, kind)
    assert mend in problem["detail"]
    open_to_all = ("/api/docs/x.js",)
    if path not in open_to_all and status == 404:
        problem_of(client.open(path, method=method), 401, "unauthorized")


def test_a_wrong_method_names_the_right_ones(client: FlaskClient) -> None:
    """In the header that HTTP has for it."""
    assert "GET" in client.post("/api/stats", headers=ADMIN).headers["Allow"]


CREDENTIALS = [
    ({}, "/api/stats", 401, "unauthorized", "send `x-api-key`"),
    ({"x-api-key": "wrong"}, "/api/stats", 401, "unauthorized", "send `x-api-key`"),
    ({"x-api-key": "ingest"}, "/api/stats", 403, "forbidden", "use one that has it"),
    ({"x-api-key": "user"}, "/api/stats", 403, "forbidden", "use one that names some"),
    ({"x-api-key": "team-a"}, "/api/dlq", 403, "forbidden", "use an admin key"),
    ({"x-api-key": "team-a"}, "/api/events?namespace=x", 403, "forbidden", "one of your own"),
]


@pytest.mark.parametrize(("headers", "path", "status", "kind", "mend"), CREDENTIALS)
def test_credentials(
    client: FlaskClient, headers: dict[str, str], path: str, status: int, kind: str, mend: str
) -> None:
    """Missing, wrong, without the scope, or out of reach."""
    answer = client.get(path, headers=headers)
    assert mend in problem_of(answer, status, kind)["detail"]
    assert ("WWW-Authenticate" in answer.headers) == (status == 401)


def test_too_many_failures(new_app: NewApp) -> None:
    """Answered 429 with the time to wait; a valid credential still counts."""
    registry = new_registry()
    verifier = CountedFailures(callers(), AuthMetrics(registry), lambda: 0.0)
    client = new_app(None, verifier=verifier, metrics=ApiMetrics(registry)).test_client()
    answers = [client.get("/api/stats") for _ in range(61)]
    problem_of(answers[-1], 429, "too_many_requests")
    assert "Retry-After" in answers[-1].headers
    assert client.get("/api/auth/me", headers=ADMIN).status_code == 200


class Expired:
    """A verifier whose token's time is over."""

    def verify(self, credentials: object, source: str = "") -> Any:
        raise Unauthenticated("the token has expired (exp); sign in again")


def test_an_expired_token(new_app: NewApp) -> None:
    """The mend is to sign in again; tests of `auth` make real tokens."""
    client = new_app(None, verifier=Expired()).test_client()
    answer = client.get("/api/stats", headers={"Authorization": "Bearer a.b.c"})
    assert "sign in again" in problem_of(answer, 401, "unauthorized")["detail"]


@pytest.mark.parametrize(
    ("error", "status", "kind"),
    [
        (TooSlow("the query ran over its time; ask for a shorter time"), 503, "query_timeout"),
        (Conflict("somebody else changed it; read it again"), 409, "conflict"),
        (ValueError("a bug with a secret"), 500, "internal_error"),
    ],
)
def test_what_the_store_says(new_app: NewApp, error: Exception, status: int, kind: str) -> None:
    """A query over its budget is 503 with the mend; a bug tells nothing about itself."""
    store: EventStore = Store(error)  # type: ignore[assignment]
    answer = new_app(store).test_client().get("/api/stats", headers=ADMIN)
    problem = problem_of(answer, status, kind)
    assert ("Retry-After" in answer.headers) == (status == 503)
    assert "secret" not in problem["detail"]
