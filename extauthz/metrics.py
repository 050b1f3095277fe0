"""The decision point's metrics, and the audit that counts what passes through it."""

from collections import OrderedDict
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from extauthz.core.decision import Decision
from extauthz.core.events import Asked, Outcome
from extauthz.core.methods import NOTIFICATIONS, REQUESTS
from extauthz.core.refusals import Refusal
from extauthz.emitter import Counts
from extauthz.server import Audit
from extauthz.sources.policies import Policies
from extauthz.undecided import Tail, TailCause


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


class MeteredAudit:
    """An audit that counts each decision and each outcome on its way to another one.

    Args:
        audit: where they go.
        registry: where the metrics are found.
        open_max: calls remembered until their outcome comes.
    """

    def __init__(self, audit: Audit, registry: CollectorRegistry, open_max: int = 20_000) -> None:
        self._audit, self._open_max = audit, open_max
        self._open: OrderedDict[str, tuple[Labels, bool]] = OrderedDict()
        self._running = 0  # of the open ones, those that were allowed
        reasons = (*_CALL, "reason")
        self._decisions = Counter(Name.DECISIONS, "Decisions.", reasons, registry=registry)
        ended = (*_CALL, "status")
        self._requests = Counter(Name.REQUESTS, "Calls that ended.", ended, registry=registry)
        self._duration = Histogram(
            Name.DURATION, "Duration of calls.", ended, buckets=_BUCKETS, registry=registry
        )
        self._bytes_in = Counter(Name.REQUEST_BYTES, "Body bytes in.", ended, registry=registry)
        self._bytes_out = Counter(Name.RESPONSE_BYTES, "Body bytes out.", ended, registry=registry)
        inflight = Gauge(Name.INFLIGHT, "Allowed calls that have not ended.", registry=registry)
        inflight.set_function(lambda: self._running)
        # Finding a labelled metric costs more than counting; labels are few, see above.
        self._counted: dict[Labels, Counter] = {}
        self._ended: dict[Labels, tuple[Counter, Histogram, Counter, Counter]] = {}

    async def record(self, asked: Asked, decision: Decision) -> Decision:
        """Pass on, and count what was decided in the end."""
        decision = await self._audit.record(asked, decision)
        policy, method, rpc = decision.policy, asked.method, decision.call.method
        labels = (
            policy.namespace,
            policy.server,
            policy.cluster,
            policy.team_id,
            method if method in _HTTP else "other",
            rpc if rpc in _RPC else "other",
            decision.effect.value,
        )
        key = (*labels, decision.reason.value)
        counter = self._counted.get(key)
        if counter is None:
            counter = self._counted[key] = self._decisions.labels(*key)
        counter.inc()
        self._remember(decision, labels)
        return decision

    def outcome(self, decision_id: str, outcome: Outcome) -> None:
        """Pass on, and count how the call ended."""
        self._audit.outcome(decision_id, outcome)
        labels, allowed = self._open.pop(decision_id, (None, False))
        if labels is None:
            return
        self._running -= allowed
        ended = (*labels, str(outcome.status))
        found = self._ended.get(ended)
        if found is None:
            found = self._ended[ended] = (
                self._requests.labels(*ended),
                self._duration.labels(*ended),
                self._bytes_in.labels(*ended),
                self._bytes_out.labels(*ended),
            )
        requests, duration, bytes_in, bytes_out = found
        requests.inc()
        duration.observe(max(outcome.latency_ms, 0) / 1000)
        bytes_in.inc(max(outcome.bytes_in, 0))
        bytes_out.inc(max(outcome.bytes_out, 0))

    def _remember(self, decision: Decision, labels: Labels) -> None:
        self._open[decision.id] = (labels, decision.allowed)
        self._running += decision.allowed
        if len(self._open) > self._open_max:
            _, (_, allowed) = self._open.popitem(last=False)
            self._running -= allowed


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
        for cause in TailCause:
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
    yield _gauge(Name.PENDING, "Audit events in memory.", counts.pending)
    yield _gauge(Name.SPOOLED, "Audit events on disk.", counts.spooled)
    yield _gauge(Name.SPOOL_BYTES, "Disk used by the spool.", counts.spool_bytes)
    yield _gauge(Name.INGEST_AWAY, "Whether ingest is out of reach.", counts.away)


def _gauge(name: Name, help: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help, value=float(value))
