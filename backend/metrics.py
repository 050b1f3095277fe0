"""The Prometheus metrics of the backend's components, one registry for a process."""

from enum import StrEnum

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector


class Name(StrEnum):
    """Metric names; the first two are mcp-runtime's."""

    INTAKE_PAUSED = "processor_intake_paused"  # 1 while the store refuses inserts
    PAUSE_TRANSITIONS = "processor_intake_pause_transitions_total"  # pauses and resumptions
    PROCESSED = "processor_events_total"  # records done with: stored, present, resent, poison
    INSERT_SECONDS = "processor_insert_seconds"  # time of one insert
    LAG = "processor_lag_records"  # records not committed yet
    INGEST_REQUESTS = "ingest_requests_total"  # answers, by status
    INGESTED = "ingest_events_total"  # events that the log has taken
    APPEND_SECONDS = "ingest_append_seconds"  # time until the log had a request's events
    API_REQUESTS = "api_requests_total"  # answers, by route and status
    API_SECONDS = "api_request_seconds"  # time of one request


def new_registry() -> CollectorRegistry:
    """A registry with the process's own figures."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class IngestMetrics:
    """What ingest counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            Name.INGEST_REQUESTS, "Answers by status", ["status"], registry=registry
        )
        self.events = Counter(Name.INGESTED, "Events that the log has taken", registry=registry)
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
        self.lag = Gauge(Name.LAG, "Records not committed yet", registry=registry)


class ApiMetrics:
    """What the api counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            Name.API_REQUESTS,
            "Answers by route and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            Name.API_SECONDS, "Time of one request", ["route"], registry=registry
        )
