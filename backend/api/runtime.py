"""What operators look after through the api."""

from collections.abc import Callable
from dataclasses import dataclass

from backend.api.letters import DeadLetters
from backend.api.restart import Cooldown, Record
from backend.ports.cluster import Cluster


@dataclass(frozen=True, slots=True, kw_only=True)
class Runtime:
    """The parts of a running Sentinel.

    Args:
        letters: None where this process was told of no event log.
        record_restarts: tells the audit trail of restarts, before they are made.
        fault: why nobody should ask this api now; empty where all may.
    """

    letters: DeadLetters | None
    cluster: Cluster
    record_restarts: Record
    cooldown: Cooldown
    fault: Callable[[], str]
