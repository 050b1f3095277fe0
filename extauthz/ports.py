"""Where the decision point's parts meet: who decides, who answers, where decisions go."""

from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Protocol

from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision
from extauthz.core.events import Decided, Outcome

# Answers Checks, as Envoy wrote them, in order; None where one could not be answered.
AnswerChecks = Callable[[Sequence[bytes]], Sequence[bytes | None]]


class Snapshots(Protocol):
    """Where the running policy is found; a source swaps it as a whole."""

    @property
    def current(self) -> Snapshot: ...


class Audit(Protocol):
    """Where decisions and outcomes go."""

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        """Offer decisions to the audit trail. For the thread that answers Check.

        Returns:
            Each decision with its id; a denial (audit_unavailable) where it must be on disk first
            and cannot be. Never raises.
        """

    def outcome(self, decision_id: str, outcome: Outcome) -> Decided | None:
        """Join the outcome to its decision. For the event loop. Never blocks, never raises.

        Returns:
            What ended, once, as long as it is remembered.
        """


class CheckServer(StrEnum):
    """Who speaks HTTP/2 to Envoy; README.md tells how the two were measured."""

    NATIVE = "native"  # pygrpc-native: in Rust, outside the interpreter's lock
    GRPCIO = "grpcio"  # grpc.aio


class Server(Protocol):
    """Speaks gRPC on one port."""

    def add_insecure_port(self, address: str) -> int: ...

    async def start(self) -> None: ...

    async def ended(self) -> None:
        """Until nothing answers Check any more: after `stop`, or because of a bug."""

    async def stop(self, grace: float | None) -> None: ...
