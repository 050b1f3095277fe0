"""docs/events.md names what events say, and nothing else."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest

from backend.auth.failures import Throttled
from backend.auth.principal import Scope
from backend.ingest import bodies, envelopes, refusals, strict
from backend.ingest.app import MAX_TRACE_BYTES
from backend.problems import problem_of, problem_of_status
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Busy, Forbidden, Retryable, Unauthenticated
from extauthz.core.events import MAX_NAME_BYTES, CallPayload, Cause, Envelope, EventType, Outcome
from extauthz.core.governance import MAX_PAYLOAD_BYTES, Action, Change, Key, Restart, change_payload
from extauthz.core.strictjson import MAX_DEPTH
from extauthz.emitter.options import EmitterOptions
from extauthz.undecided.events import Place, Writer
from extauthz.undecided.lines import read_line
from extauthz.undecided.position import Loss
from tests.tools.waiting import soon

TEXT = (Path(__file__).parents[4] / "docs/events.md").read_text()
ENDED = {"status", "latency_ms", "bytes_in", "bytes_out", "response_flags"}
PLACE = Place("0190b3b8-0000-7000-8000-000000000000", "a-log", 1, 1.0)
LINE = b'{"time":"2026-11-22T10:00:00Z","status":413,"request_id":"r-1","method":"POST"}'


def section(heading: str) -> str:
    """A section without its subsections."""
    found = re.search(rf"^#+ {re.escape(heading)}$\n(.*?)(?=^#|\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, f"docs/events.md has no section `{heading}`"
    return found[1]


def told(heading: str, column: str = "member") -> set[str]:
    """The names in the first column of the section's tables that are headed by `column`."""
    names: list[str] = []
    for table in re.findall(rf"^\| {column} \|.*\n((?:\|.*\n)+)", section(heading), re.MULTILINE):
        for row in table.splitlines():
            names += re.findall(r"`([a-z_]+)`", row.split("|")[1])
    assert len(names) == len(set(names)), f"`{heading}` names a member twice"
    return set(names)


COMMON = told("In every payload of a gateway")


async def test_members_of_the_emitters_events(ingest, running, record) -> None:
    """What the emitter sends has the members of its section, those that are optional included."""
    found: dict[str, set[str]] = {}
    for _ in range(2):  # the second start tells of the first
        async with running(heartbeat_seconds=0.02, versions={"sentinel": "1.2"}) as emitter:
            emitter.outcome("forgotten", Outcome(200, 1.0, 1, 1))
            if not found:
                ingest.poison = b'"mcp.request"'  # refused, so that a gap tells of it
                await record(emitter)
            await soon(lambda: ingest.of("audit.gap") and ingest.of("gateway.heartbeat"))
        found = {kind: set().union(*ingest.of(kind)) for kind in EventType if ingest.of(kind)}
    assert found.pop(EventType.AUDIT_GAP) - COMMON == told("audit.gap")
    assert found.pop(EventType.RESPONSE) - COMMON == told("mcp.response")
    assert found.pop(EventType.GATEWAY_HEARTBEAT) - COMMON == told("gateway.heartbeat")
    optional = {"policy_revision"}  # told where a policy is there
    assert (found.pop(EventType.GATEWAY_START) | optional) - COMMON == told("gateway.start")
    assert not found


def test_members_of_a_call() -> None:
    """mcp.request has the members of its section; those of its first table are always there."""
    fields = msgspec.structs.fields(CallPayload)
    assert {field.name for field in fields} - COMMON == told("mcp.request")
    always = section("mcp.request").split("Where known:")[0]
    required = {field.name for field in fields if field.required} - COMMON
    assert required == set(
        re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\| (`.*?) \|", always, re.MULTILINE)))
    )


def test_members_of_an_undecided_request() -> None:
    """A request without a decision has the members of its section; its gap those of a gap."""
    writer = Writer(EmitterOptions("http://127.0.0.1/events", Path("spool")))
    facts = PolicyFacts("billing", "team-a")
    read, torn = (
        set(_payload(writer.request(PLACE, line, facts))) for line in (read_line(LINE), None)
    )
    named = {"team_id", "decision", "reason", "request_id", "method", "path"}
    assert (read | torn) - COMMON - named - ENDED == told("Refused before a decision")
    assert named <= set(re.findall(r"`([a-z_]+)`", section("Refused before a decision")))
    gap = writer.gap(PLACE, Loss("a-log", 1, 2, Cause.REFUSED.value), facts)
    assert set(_payload(gap)) - COMMON == told("audit.gap")


def test_members_of_a_change() -> None:
    """governance.change has the members of its section, and its actions are named there."""
    large = {"spec": "x" * (MAX_PAYLOAD_BYTES + 1)}
    key = Key("MCPServer", "team-a", "billing")
    change = Change(key, Action.CHANGED, "file", "billing", large, None, "a.yaml", "2026-01-01")
    nobody = dataclasses.replace(change, actor="unknown", actor_unknown="Kubernetes keeps none")
    assert set(change_payload(nobody)) == told("governance.change")
    assert set(change_payload(change)) == told("governance.change") - {"actor_unknown"}
    assert f"{MAX_PAYLOAD_BYTES:,} bytes" in section("governance.change")
    assert all(f"`{action}`" in section("governance.change") for action in Action)


def test_members_of_a_restart() -> None:
    """governance.restart has the members of its section."""
    assert {field.name for field in dataclasses.fields(Restart)} == told("governance.restart")


def test_every_type_and_cause_is_told() -> None:
    """Each event type has a section, each cause of a gap a row."""
    assert set(re.findall(r"^## (\w+\.\w+)$", TEXT, re.MULTILINE)) == set(EventType)
    assert told("audit.gap", "cause") == set(Cause)


def test_envelope() -> None:
    """The envelope's table has what we send, and what ingest knows besides."""
    sent = {field.name for field in msgspec.structs.fields(Envelope)}
    assert told("The envelope") == sent | {"resent", "producer"}


@pytest.mark.parametrize(
    ("row", "value"),
    [
        ("one event", f"{strict.MAX_EVENT_BYTES >> 20} MiB"),
        ("events in a request", f"1 to {strict.MAX_EVENTS:,}"),
        ("time for the body to arrive; for the log to take it", f"{bodies.READ_SECONDS:.0f} s;"),
        ("`source`, `event_type`, `trace_id`", f"{MAX_NAME_BYTES} bytes"),
    ],
)
def test_bounds(row: str, value: str) -> None:
    """The bounds are those of ingest."""
    assert f"| {row} | {value}" in section("POST /events")


def test_words_about_ingest() -> None:
    """What stands in the sentences is what ingest goes by."""
    text = section("POST /events")
    assert f"the scope `{Scope.INGEST}`" in text
    assert f"`{envelopes.OWN_PREFIX}*`" in text
    assert f"at most {MAX_DEPTH} levels" in text
    assert f"up to {MAX_TRACE_BYTES:,} bytes" in text
    assert envelopes.MAX_AHEAD_SECONDS == 3600
    assert "at most an hour ahead" in text
    assert all(f"`{name}`" in text for name in bodies.ENCODINGS)


def test_codes() -> None:
    """Each way of ingest to refuse has its status and code in the table of answers."""
    rows = re.findall(r"^\| ([0-9, ]+) \| (.*?) \|", section("Answers"), re.MULTILINE)
    known = {code: status for status, codes in rows for code in re.findall(r"`(\w+)`", codes)}
    refused = [
        refusals.invalid("payload", "", ""),
        refusals.invalid("event_id", "", ""),
        refusals.bad_json("", ""),
        refusals.bad_encoding(""),
        refusals.too_large("", ""),
        refusals.unsupported("Content-Type", "", ""),
    ]
    for refusal in refused:
        assert known[refusal.code] == str(refusal.status.value)
    errors = [Throttled(""), Unauthenticated(""), Forbidden(""), Busy(""), Retryable("")]
    for problem in (*map(problem_of, errors), problem_of(KeyError()), problem_of_status(408)):
        assert known[problem.code] == str(problem.status.value)
    assert problem_of_status(405).code in known
    assert problem_of_status(404).code in known


def _payload(line: bytes) -> dict[str, Any]:
    payload: dict[str, Any] = msgspec.json.decode(line)["payload"]
    return payload
