"""What runs the components of an installed Sentinel, as the person who operates it sees it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from backend.ports.cluster import ComponentState


class LogSource(NamedTuple):
    """A container that writes a log."""

    pod: str
    container: str


class LogLine(NamedTuple):
    """Args: at: RFC 3339 with nanoseconds, when it was written; text: without its end."""

    at: str
    text: str


@dataclass(frozen=True, slots=True)
class LogRange:
    """Which part of a log is read.

    Args:
        tail: that many of its last lines; None for all.
        since_seconds: no older lines; None for all.
        previous: of the run before the last restart.
        follow: and what comes, until the container ends.
    """

    tail: int | None = None
    since_seconds: int | None = None
    previous: bool = False
    follow: bool = False


@dataclass(frozen=True, slots=True)
class Rollout:
    """How far a restart has come.

    Args:
        told: like `1 of 2 updated`.
        fault: why it does not go on; empty where nothing is known to be wrong.
        is_stuck: the cluster itself has given it up.
    """

    is_done: bool
    told: str
    fault: str = ""
    is_stuck: bool = False


@dataclass(frozen=True, slots=True)
class Happening:
    """An Event of Kubernetes.

    Args:
        at: RFC 3339, of the last time.
        kind: Normal or Warning.
        about: like `Pod/mcp-sentinel-api-5d7f`.
        count: how often.
    """

    at: str
    kind: str
    reason: str
    about: str
    message: str
    count: int


class Tunnel(Protocol):
    """A connection to a port inside a pod."""

    async def send(self, data: bytes) -> None:
        """Raises: Retryable: it is broken."""

    async def receive(self) -> bytes:
        """The next bytes; none at its end. Raises: Retryable: it is broken, or refused."""

    async def close(self) -> None:
        """At once; what was sent is sent."""


class Workloads(Protocol):
    """The components in one namespace; `key` is one of `backend.ports.cluster.PARTS`.

    Raises, everywhere: NotFound: it is not deployed. Retryable: the cluster does not answer, or
    refuses. Conflict: it has nothing of the kind.
    """

    async def components(self) -> Sequence[ComponentState]:
        """Each component once, in the order of `PARTS`; all of them unknown without an answer."""

    async def begin_restart(self, key: str) -> None:
        """Its pods are replaced from now on, one after the other."""

    async def rollout(self, key: str) -> Rollout:
        """How far its last restart or change has come."""

    async def log_sources(self, key: str) -> Sequence[LogSource]:
        """The containers of its pods, as they are now."""

    def log_lines(self, source: LogSource, which: LogRange) -> AsyncIterator[LogLine]:
        """The oldest first. NotFound: the pod is gone. Invalid: it has no such log (yet)."""

    async def connect(self, key: str, port: int) -> Tunnel:
        """To that port in one of its pods that serve."""

    async def happenings(self) -> Sequence[Happening]:
        """What Kubernetes tells of the namespace, the oldest first."""
