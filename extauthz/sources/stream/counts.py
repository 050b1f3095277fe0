"""What the stream source counts, and its metrics."""

from bisect import bisect_left
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import accumulate
from typing import Final

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString


class Name(StrEnum):
    """Metric names."""

    CONNECTED = "mcp_gateway_policy_stream_connected"  # 1 while the controller is listened to
    STREAMS = "mcp_gateway_policy_stream_attempts_total"  # streams that were opened, or tried
    UPDATES = "mcp_gateway_policy_stream_updates_total"  # by kind, and what became of them
    APPLY = "mcp_gateway_policy_stream_apply_seconds"  # from an update's last message to its swap
    AGE = "mcp_gateway_policy_age_seconds"  # since the policy was last known to be current


class Kind(StrEnum):
    """What an update is."""

    FULL = "full"
    INCREMENT = "increment"
    CONFIRMATION = "confirmation"
    BROKEN = "broken"  # refused before it was known which


class Result(StrEnum):
    """What became of an update."""

    SUCCESS = "success"
    FAILURE = "failure"


_BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


def _zeros() -> list[int]:
    return [0] * (len(_BUCKETS) + 1)


@dataclass(slots=True)
class Counts:
    """Numbers of one stream source.

    Args:
        attempts: streams that were opened, or tried.
        updates: by kind and result.
        slower: applied updates that fell into each bucket, the last beyond all; by kind.
        seconds: which they took together.
    """

    attempts: int = 0
    updates: dict[tuple[Kind, Result], int] = field(
        default_factory=lambda: {(kind, result): 0 for kind in Kind for result in Result}
    )
    slower: dict[Kind, list[int]] = field(
        default_factory=lambda: {kind: _zeros() for kind in Kind if kind is not Kind.BROKEN}
    )
    seconds: dict[Kind, float] = field(default_factory=lambda: dict.fromkeys(Kind, 0.0))

    def applied(self, kind: Kind, seconds: float) -> None:
        """An update runs."""
        self.updates[kind, Result.SUCCESS] += 1
        self.slower[kind][bisect_left(_BUCKETS, seconds)] += 1
        self.seconds[kind] += seconds

    def describe(self) -> dict[str, dict[str, int]]:
        """For people: updates by kind and result."""
        return {
            kind.value: {result.value: self.updates[kind, result] for result in Result}
            for kind in Kind
        }

    def refused(self, kind: Kind) -> None:
        """An update does not run."""
        self.updates[kind, Result.FAILURE] += 1


class StreamCollector(Collector):
    """Tells of a stream source when somebody asks.

    Args:
        counts: its numbers.
        connected: whether the controller is listened to.
        age: seconds since the policy was last known to be current; None without a policy.
    """

    def __init__(
        self, counts: Counts, connected: Callable[[], bool], age: Callable[[], float | None]
    ) -> None:
        self._counts, self._connected, self._age = counts, connected, age

    def collect(self) -> Iterator[Metric]:
        """All of it, as of now."""
        counts, age = self._counts, self._age()
        yield GaugeMetricFamily(
            Name.CONNECTED, "Whether the controller is listened to.", float(self._connected())
        )
        yield CounterMetricFamily(Name.STREAMS, "Streams opened or tried.", counts.attempts)
        updates = CounterMetricFamily(
            Name.UPDATES, "Updates of the policy.", labels=("kind", "result")
        )
        for (kind, result), count in counts.updates.items():
            updates.add_metric((kind.value, result.value), count)
        yield updates
        apply = HistogramMetricFamily(
            Name.APPLY, "From an update's last message to its swap.", labels=("kind",)
        )
        for kind, slower in counts.slower.items():
            bounds = (*map(floatToGoString, _BUCKETS), "+Inf")
            buckets = list(zip(bounds, accumulate(slower), strict=True))
            apply.add_metric((kind.value,), buckets, counts.seconds[kind])
        yield apply
        if age is not None:
            yield GaugeMetricFamily(Name.AGE, "Since the policy was last confirmed.", age)
