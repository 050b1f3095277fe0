"""What passes through is counted, under labels that callers cannot multiply."""

import time
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from extauthz.core.decision import Decision, Effect, PolicyFacts
from extauthz.core.events import Asked, Cause, Decided, Outcome
from extauthz.core.reasons import Reason
from extauthz.core.refusals import Refusal
from extauthz.core.request import Call
from extauthz.emitter import EmitterOptions
from extauthz.metrics import MeteredAudit, Name, StateCollector, UndecidedCollector
from extauthz.sources.policies import Policies
from extauthz.undecided import OpenCalls, Tail

FACTS = PolicyFacts(server="demo", namespace="home", cluster="c", team_id="t")
ALLOW = Decision(Effect.ALLOW, Reason.ALLOWED, FACTS, call=Call(method="tools/call", tool="x"))
DENY = replace(ALLOW, effect=Effect.DENY, reason=Reason.TOOL_DENIED)


class Trail:
    """An audit that numbers decisions."""

    def __init__(self) -> None:
        self.outcomes: list[str] = []
        self.count = 0
        self.open: dict[str, Decided] = {}

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        first = self.count + 1
        self.count += len(decided)
        named = [(asked, replace(d, id=str(n))) for n, (asked, d) in enumerate(decided, first)]
        self.open |= {decision.id: (asked, decision) for asked, decision in named}
        return [decision for _, decision in named]

    def outcome(self, decision_id: str, outcome: Outcome) -> Decided | None:
        self.outcomes.append(decision_id)
        return self.open.pop(decision_id, None)


def value(registry: CollectorRegistry, name: Name, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)


def labels(**more: str) -> dict[str, str]:
    known = {"namespace": "home", "server": "demo", "cluster": "c", "team_id": "t"}
    return known | {"method": "POST", "rpc_method": "tools/call"} | more


def test_decisions_and_outcomes() -> None:
    """Every decision counts under its reason, every end under its status."""
    registry, trail = CollectorRegistry(), Trail()
    audit = MeteredAudit(trail, registry)
    asked = Asked("POST", "/mcp")
    decided = audit.record([(asked, d) for d in (ALLOW, ALLOW, DENY)])
    assert [d.id for d in decided] == ["1", "2", "3"]
    allowed = labels(decision="allow", reason="allowed")
    assert value(registry, Name.DECISIONS, **allowed) == 2
    audit.outcome("1", Outcome(200, 250.0, 10, 20))
    audit.outcome("1", Outcome(200, 250.0, 10, 20))
    audit.outcome("nobody's", Outcome(200, 1.0, 1, 1))
    ended = labels(decision="allow", status="200")
    assert value(registry, Name.REQUESTS, **ended) == 1
    assert registry.get_sample_value(f"{Name.DURATION}_sum", ended) == 0.25
    assert value(registry, Name.REQUEST_BYTES, **ended) == 10
    assert value(registry, Name.RESPONSE_BYTES, **ended) == 20
    assert trail.outcomes == ["1", "1", "nobody's"]


def test_labels_are_bounded() -> None:
    """Methods that nobody knows count as `other`: a caller cannot make new series."""
    registry = CollectorRegistry()
    audit = MeteredAudit(Trail(), registry)
    for i in range(3):
        call = Call(method=f"x/{i}")
        audit.record([(Asked(f"M{i}", "/"), replace(DENY, call=call))])
    other = labels(method="other", rpc_method="other", decision="deny", reason="tool_denied")
    assert value(registry, Name.DECISIONS, **other) == 3


def test_state() -> None:
    """The policy's state is there before there is a policy, and before the emitter runs."""
    registry = CollectorRegistry()
    registry.register(StateCollector(Policies(FACTS), lambda: None))
    known = {"namespace": "home", "server": "demo", "cluster": "c", "team_id": "t"}
    assert value(registry, Name.RELOADS, **known, result="success") == 0
    assert value(registry, Name.FAULTS) == 0


async def test_undecided_requests(tmp_path: Path) -> None:
    """What never reached Check counts by reason, what no event tells of by cause."""
    log = tmp_path / "undecided.jsonl"
    tail = Tail(
        log,
        1 << 20,
        EmitterOptions("http://127.0.0.1:1/events", tmp_path),
        facts=lambda: FACTS,
        calls=OpenCalls(Trail(), 10),
        clock=time.time,
    )
    tail.sent[Refusal.REQUEST_TOO_LARGE] += 2
    tail.dropped[Cause.UNDECIDED_OVERFLOW] += 3
    log.write_bytes(b"x" * 5000)
    registry = CollectorRegistry()
    registry.register(UndecidedCollector(tail))
    assert value(registry, Name.UNDECIDED, reason="request_too_large") == 2
    assert value(registry, Name.UNDECIDED, reason="gateway_error") == 0
    assert value(registry, Name.UNDECIDED_DROPPED, cause="undecided_overflow") == 3
    assert value(registry, Name.UNDECIDED_BYTES) == log.stat().st_blocks * 512
