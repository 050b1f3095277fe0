"""The Prometheus metrics of the backend's components, one registry for a process."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector


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
            "ingest_requests_total", "Answers by status", ["status"], registry=registry
        )
        self.events = Counter(
            "ingest_events_total", "Events that the log has taken", registry=registry
        )
        self.append_seconds = Histogram(
            "ingest_append_seconds", "Time until the log had a request's events", registry=registry
        )


class ProcessorMetrics:
    """What the processor counts; the first two names are upstream's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.intake_paused = Gauge(
            "processor_intake_paused", "1 while the store refuses inserts", registry=registry
        )
        self.pause_transitions = Counter(
            "processor_intake_pause_transitions_total", "Pauses and resumptions", registry=registry
        )
        self.events = Counter(
            "processor_events_total",
            "Records done with: stored, present (already), resent (known), poison",
            ["result"],
            registry=registry,
        )
        self.insert_seconds = Histogram(
            "processor_insert_seconds", "Time of one insert", registry=registry
        )
        self.lag = Gauge("processor_lag_records", "Records not committed yet", registry=registry)


class ApiMetrics:
    """What the api counts."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.registry = registry
        self.requests = Counter(
            "api_requests_total",
            "Answers by route and status",
            ["method", "route", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "api_request_seconds", "Time of one request", ["route"], registry=registry
        )
