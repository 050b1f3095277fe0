"""The Prometheus metrics of the backend's components, one registry for a process."""

from enum import StrEnum
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

BATCH_BUCKETS: Final = (1, 10, 100, 1_000, 5_000, 10_000, 50_000, 500_000)


class Name(StrEnum):
    """Metric names; the first two are mcp-runtime's."""

    INTAKE_PAUSED = "processor_intake_paused"  # 1 while the store refuses inserts
    PAUSE_TRANSITIONS = "processor_intake_pause_transitions_total"  # pauses and resumptions
    PROCESSED = "processor_events_total"  # records done with: stored, present, resent, poison
    BATCH_EVENTS = "processor_batch_events"  # records of one batch
    INSERT_SECONDS = "processor_insert_seconds"  # time of one insert
    RETRIES = "processor_retries_total"  # what failed and is tried again
    LAG = "processor_lag_records"  # records not committed yet; NaN where not known
    LAG_SECONDS = "processor_lag_seconds"  # age of the oldest record in hand
    DUPLICATES = "processor_duplicate_events"  # rows of the last hour beyond one for each event_id
    HALTED = "processor_halted"  # 1 after too many dead letters
    AUTH_FAILURES = "auth_failures_total"  # requests without a valid credential, by reason
    AUTH_THROTTLED = "auth_throttled_total"  # those of them that were answered 429
    KEY_FILE_CHANGES = "auth_key_file_changes_total"  # times that other keys of it were taken
    KEY_FILE_REFUSED = "auth_key_file_refused"  # 1 while API_KEYS_FILE cannot be used
    INGEST_REQUESTS = "ingest_requests_total"  # answers, by status
    INGESTED = "ingest_events_total"  # events that the log has taken
    INGEST_HELD = "ingest_held_bytes"  # what requests hold in memory that are being answered
    APPEND_SECONDS = "ingest_append_seconds"  # time until the log had a request's events
    API_REQUESTS = "api_requests_total"  # answers, by route and status
    API_SECONDS = "api_request_seconds"  # time of one request
    CHANGES_LOST = "api_changes_lost"  # changes made whose record could not be kept
    CHANGES_WAITING = "api_changes_waiting"  # records of changes that the event log lacks
    SIDECARS = "controller_sidecars"  # sidecars that follow their policy here
    SIDECARS_BEHIND = "controller_sidecars_behind"  # those that do not run the latest
    POLICY_UPDATES = "controller_policy_updates_total"  # updates sent, by kind
    POLICY_REFUSALS = "controller_policy_refusals_total"  # updates that a sidecar refused
    RECONCILE_SECONDS = "controller_reconcile_seconds"  # from a changed object to its update
    API_SERVER_CALLS = "controller_api_server_calls_total"  # by verb and resource
    LEADS = "controller_leads"  # 1 while this replica leads


class Result(StrEnum):
    """What became of a record."""

    STORED = "stored"
    PRESENT = "present"  # its position was stored already
    RESENT = "resent"  # its event is stored from another position
    POISON = "poison"  # it can never be stored


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class AuthMetrics:
    """What is counted of those who are not let in, and of the file of those who are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.failures = Counter(
            Name.AUTH_FAILURES,
            "Requests without a valid credential: missing, invalid, unavailable (provider away)",
            ["reason"],
            registry=registry,
        )
        self.throttled = Counter(
            Name.AUTH_THROTTLED, "Those of them that were answered 429", registry=registry
        )
        self.key_file_changes = Counter(
            Name.KEY_FILE_CHANGES,
            "Times that other keys of API_KEYS_FILE were taken",
            registry=registry,
        )
        self.key_file_refused = Gauge(
            Name.KEY_FILE_REFUSED,
            "1 while API_KEYS_FILE cannot be used; the keys before it count on",
            registry=registry,
        )


class IngestMetrics:
    """What ingest counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            Name.INGEST_REQUESTS, "Answers by status", ["status"], registry=registry
        )
        self.events = Counter(Name.INGESTED, "Events that the log has taken", registry=registry)
        self.held = Gauge(
            Name.INGEST_HELD, "Bytes held by requests that are being answered", registry=registry
        )
        self.append_seconds = Histogram(
            Name.APPEND_SECONDS, "Time until the log had a request's events", registry=registry
        )


class ProcessorMetrics:
    """What the processor counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.intake_paused = Gauge(
            Name.INTAKE_PAUSED, "1 while the store refuses inserts", registry=registry
        )
        self.pause_transitions = Counter(
            Name.PAUSE_TRANSITIONS, "Pauses and resumptions", registry=registry
        )
        self.events = Counter(
            Name.PROCESSED,
            "Records done with: stored, present (already), resent (known), poison",
            ["result"],
            registry=registry,
        )
        self.insert_seconds = Histogram(
            Name.INSERT_SECONDS, "Time of one insert", registry=registry
        )
        self.batch_events = Histogram(
            Name.BATCH_EVENTS, "Records of one batch", buckets=BATCH_BUCKETS, registry=registry
        )
        self.retries = Counter(Name.RETRIES, "What failed and is tried again", registry=registry)
        self.lag = Gauge(
            Name.LAG,
            "Records not committed yet; NaN while the event log cannot be read",
            registry=registry,
        )
        self.lag_seconds = Gauge(
            Name.LAG_SECONDS, "Age of the oldest record in hand", registry=registry
        )
        self.duplicates = Gauge(
            Name.DUPLICATES,
            "Rows of the last hour beyond one for each event_id; a fault where it is not 0",
            registry=registry,
        )
        self.halted = Gauge(Name.HALTED, "1 after too many dead letters", registry=registry)

    def processed(self, result: Result) -> int:
        """How many records ended so."""
        found = self.registry.get_sample_value(Name.PROCESSED, {"result": result})
        return int(found or 0)

    def pause(self, paused: int) -> None:
        """Intake pauses (1) or goes on (0)."""
        self.intake_paused.set(paused)
        self.pause_transitions.inc()


class ApiMetrics:
    """What the api counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.changes_waiting = Gauge(
            Name.CHANGES_WAITING,
            "Records of changed grants and sessions that the event log has not taken yet",
            registry=registry,
        )
        self.changes_lost = Gauge(
            Name.CHANGES_LOST,
            "Changes since the start that took rights away, and whose record could not be kept",
            registry=registry,
        )
        self.requests = Counter(
            Name.API_REQUESTS,
            "Answers by route and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            Name.API_SECONDS, "Time of one request", ["route"], registry=registry
        )


class ControllerMetrics:
    """What the controller counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sidecars = Gauge(
            Name.SIDECARS, "Sidecars that follow their policy here", registry=registry
        )
        self.behind = Gauge(
            Name.SIDECARS_BEHIND, "Those of them that do not run the latest", registry=registry
        )
        self.updates = Counter(
            Name.POLICY_UPDATES,
            "Updates sent to sidecars: full, increment, confirmation",
            ["kind"],
            registry=registry,
        )
        self.refused = Counter(
            Name.POLICY_REFUSALS, "Updates that a sidecar refused", registry=registry
        )
        self.reconcile_seconds = Histogram(
            Name.RECONCILE_SECONDS,
            "Time from one changed object to its update for all sidecars",
            buckets=(0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.25, 1, 5),
            registry=registry,
        )
        self.calls = Counter(
            Name.API_SERVER_CALLS,
            "Calls of the API server, by verb and resource",
            ["verb", "resource"],
            registry=registry,
        )
        self.leads = Gauge(Name.LEADS, "1 while this replica leads", registry=registry)
