"""The decision point's metrics, and the audit that counts what passes through it."""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from extauthz.core.decision import Decision, PolicyFacts
from extauthz.core.events import Asked, Decided, Outcome
from extauthz.core.methods import NOTIFICATIONS, REQUESTS
from extauthz.core.refusals import Refusal
from extauthz.emitter import Counts
from extauthz.ports import Audit
from extauthz.sources.policies import Policies
from extauthz.undecided import CAUSES, Tail


class Name(StrEnum):
    """Metric names; those of mcp-runtime's gateway first."""

    REQUESTS = "mcp_gateway_requests_total"  # calls that ended, by decision and HTTP status
    DURATION = "mcp_gateway_request_duration_seconds"  # first byte in to last byte out
    REQUEST_BYTES = "mcp_gateway_request_bytes_total"  # body bytes in
    RESPONSE_BYTES = "mcp_gateway_response_bytes_total"  # body bytes out
    DECISIONS = "mcp_gateway_policy_decisions_total"  # every decision, by reason
    INFLIGHT = "mcp_gateway_inflight_requests"  # allowed calls whose end Envoy has not told
    RELOADS = "mcp_gateway_policy_reloads_total"  # what became of changes in the policy source
    REVISION = "mcp_gateway_policy_active_revision_info"  # 1 for the running revision
    CONFIRMED = "mcp_gateway_policy_confirmed_timestamp_seconds"  # last known to be current
    FAULTS = "mcp_gateway_policy_faults"  # what is wrong with the policy source now
    EVENTS = "mcp_gateway_events_total"  # audit events, by what became of them
    DROPPED = "mcp_gateway_events_dropped_total"  # audit events lost, by cause
    PENDING = "mcp_gateway_events_pending"  # audit events in memory alone
    SPOOLED = "mcp_gateway_events_spooled"  # audit events on disk, not sent yet
    SPOOL_BYTES = "mcp_gateway_spool_bytes"  # disk that they take
    INGEST_AWAY = "mcp_gateway_ingest_away"  # 1 while ingest does not take events
    UNDECIDED = "mcp_gateway_undecided_total"  # requests that got no decision, by reason
    UNDECIDED_DROPPED = "mcp_gateway_undecided_dropped_total"  # of them unaudited, by cause
    UNDECIDED_BYTES = "mcp_gateway_undecided_log_bytes"  # disk that Envoy's file of them takes
    EMITTER_FAULTS = "mcp_gateway_emitter_faults_total"  # unreadable spools, failed writes


_SERVER: Final = ("namespace", "server", "cluster", "team_id")
_CALL: Final = (*_SERVER, "method", "rpc_method", "decision")
# Labels come from callers: whatever is not on a list counts as one.
_HTTP: Final = frozenset({"POST", "GET", "DELETE", "HEAD", "OPTIONS"})
_RPC: Final = REQUESTS | NOTIFICATIONS | {""}
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)

Labels = tuple[str, ...]


@dataclass(slots=True)
class _Ended:
    """Calls that ended alike. `slower`: how many fell into each bucket, the last beyond all."""

    calls: int = 0
    seconds: float = 0.0
    bytes_in: int = 0
    bytes_out: int = 0
    slower: list[int] = field(default_factory=lambda: [0] * (len(_BUCKETS) + 1))

    def take(self, outcome: Outcome) -> None:
        seconds = max(outcome.latency_ms, 0.0) / 1000
        self.calls += 1
        self.seconds += seconds
        self.bytes_in += max(outcome.bytes_in, 0)
        self.bytes_out += max(outcome.bytes_out, 0)
        self.slower[bisect_left(_BUCKETS, seconds)] += 1

    def buckets(self) -> list[tuple[str, float]]:
        """Bounds, and how many calls took no longer."""
        bounds = (*map(floatToGoString, _BUCKETS), "+Inf")
        return list(zip(bounds, accumulate(self.slower), strict=True))


class MeteredAudit(Collector):
    """An audit that counts each decision and each outcome on its way to another one.

    It keeps numbers of its own: a metric's lock for each of them would cost as much as deciding.

    Args:
        audit: where they go.
        registry: where the metrics are found.
    """

    def __init__(self, audit: Audit, registry: CollectorRegistry) -> None:
        self._audit = audit
        self._server: tuple[PolicyFacts, Labels] = (PolicyFacts(), ("",) * len(_SERVER))
        # Each is written by one thread alone, so that none takes a lock: the one that answers
        # counts decisions, the event loop's counts ends.
        self._decided: dict[tuple[Labels, str], int] = {}
        self._ended: dict[tuple[Labels, int], _Ended] = {}
        registry.register(self)

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        """Pass on, and count what was decided in the end."""
        decisions, counts = self._audit.record(decided), self._decided
        for (asked, _), decision in zip(decided, decisions, strict=True):
            key = self._labels(asked, decision), decision.reason
            counts[key] = counts.get(key, 0) + 1
        return decisions

    def outcome(self, decision_id: str, outcome: Outcome) -> Decided | None:
        """Pass on, and count how the call ended."""
        decided = self._audit.outcome(decision_id, outcome)
        if decided is not None:
            key = self._labels(*decided), outcome.status
            ended = self._ended.get(key)
            if ended is None:
                ended = self._ended[key] = _Ended()
            ended.take(outcome)
        return decided

    def _labels(self, asked: Asked, decision: Decision) -> Labels:
        policy, method, rpc = decision.policy, asked.method, decision.call.method
        facts, server = self._server
        if policy is not facts:
            server = (policy.namespace, policy.server, policy.cluster, policy.team_id)
            self._server = policy, server
        return (
            *server,
            method if method in _HTTP else "other",
            rpc if rpc in _RPC else "other",
            decision.effect,
        )

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        decisions = CounterMetricFamily(Name.DECISIONS, "Decisions.", labels=(*_CALL, "reason"))
        for (labels, reason), count in list(self._decided.items()):  # a copy at once
            decisions.add_metric((*labels, reason), count)
        yield decisions
        of = (*_CALL, "status")
        requests = CounterMetricFamily(Name.REQUESTS, "Calls that ended.", labels=of)
        duration = HistogramMetricFamily(Name.DURATION, "Duration of calls.", labels=of)
        bytes_in = CounterMetricFamily(Name.REQUEST_BYTES, "Body bytes in.", labels=of)
        bytes_out = CounterMetricFamily(Name.RESPONSE_BYTES, "Body bytes out.", labels=of)
        for (labels, status), ended in self._ended.items():
            found = (*labels, str(status))
            requests.add_metric(found, ended.calls)
            duration.add_metric(found, ended.buckets(), ended.seconds)
            bytes_in.add_metric(found, ended.bytes_in)
            bytes_out.add_metric(found, ended.bytes_out)
        yield from (requests, duration, bytes_in, bytes_out)


class StateCollector(Collector):
    """Reads policy and emitter when somebody asks, and costs nothing until then.

    Args:
        policies: the running policy.
        counts: the emitter's; None while it does not run.
    """

    def __init__(self, policies: Policies, counts: Callable[[], Counts | None]) -> None:
        self._policies, self._counts = policies, counts

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        yield from self._policy()
        counts = self._counts()
        if counts is not None:
            yield from _emitter(counts)

    def _policy(self) -> Iterator[Metric]:
        current, faults = self._policies.current, self._policies.faults
        facts = current.facts
        server = (facts.namespace, facts.server, facts.cluster, facts.team_id)
        reloads = CounterMetricFamily(
            Name.RELOADS, "Changes in the policy source.", labels=(*_SERVER, "result")
        )
        for result, count in self._policies.reloads.items():
            reloads.add_metric((*server, result.value), count)
        yield reloads
        revision = GaugeMetricFamily(
            Name.REVISION, "The running policy.", labels=(*_SERVER, "revision")
        )
        if facts.revision:
            revision.add_metric((*server, facts.revision), 1)
        yield revision
        yield _gauge(Name.CONFIRMED, "When it was last known to be current.", current.confirmed_at)
        yield _gauge(Name.FAULTS, "Faults of the policy source.", len(faults))


class UndecidedCollector(Collector):
    """Reads the undecided log's tail when somebody asks."""

    def __init__(self, tail: Tail) -> None:
        self._tail = tail

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        sent = CounterMetricFamily(
            Name.UNDECIDED, "Requests that got no decision.", labels=("reason",)
        )
        for reason in Refusal:
            sent.add_metric((reason.value,), self._tail.sent[reason])
        yield sent
        dropped = CounterMetricFamily(
            Name.UNDECIDED_DROPPED, "Requests without decision or event.", labels=("cause",)
        )
        for cause in CAUSES:
            dropped.add_metric((cause.value,), self._tail.dropped[cause])
        yield dropped
        yield _gauge(Name.UNDECIDED_BYTES, "Disk used by their log.", self._tail.disk_bytes)


def _emitter(counts: Counts) -> Iterator[Metric]:
    events = CounterMetricFamily(Name.EVENTS, "Audit events.", labels=("result",))
    for result in ("offered", "recovered", "sent", "resent", "joined", "late"):
        events.add_metric((result,), getattr(counts, result))
    yield events
    dropped = CounterMetricFamily(Name.DROPPED, "Audit events lost.", labels=("cause",))
    for cause, count in counts.dropped.items():
        dropped.add_metric((cause.value,), count)
    yield dropped
    faults = CounterMetricFamily(Name.EMITTER_FAULTS, "Faults of spool and mark.")
    faults.add_metric((), counts.faults)
    yield faults
    yield _gauge(Name.INFLIGHT, "Allowed calls that have not ended.", counts.running)
    yield _gauge(Name.PENDING, "Audit events in memory.", counts.pending)
    yield _gauge(Name.SPOOLED, "Audit events on disk.", counts.spooled)
    yield _gauge(Name.SPOOL_BYTES, "Disk used by the spool.", counts.spool_bytes)
    yield _gauge(Name.INGEST_AWAY, "Whether ingest is out of reach.", counts.away)


def _gauge(name: Name, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=float(value))
