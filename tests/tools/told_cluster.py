"""A cluster that is what a test says, and remembers what it was asked to restart."""

from collections.abc import Sequence
from typing import Any

import msgspec

from backend.api.restart import Cooldown
from backend.api.runtime import Runtime
from backend.ports.cluster import (
    ALWAYS_TOLD,
    DISPLAY,
    ComponentState,
    ServerState,
    Status,
    not_deployed,
    require_restartable,
    unknown,
)
from extauthz.core.errors import Retryable
from extauthz.core.governance import Restart


class ToldCluster:
    """Components of mcp-runtime are ready but ui (not deployed) and gateway (unknown)."""

    def __init__(self) -> None:
        ready = [
            ComponentState(
                key=key,
                display=DISPLAY[key],
                status=Status.READY,
                kind="Task",
                resource=f"backend/{key}",
                ready="1/1",
                version="1.2.3",
                started_at="2026-11-21T11:00:00Z",
                lag=7 if key == "processor" else None,
            )
            for key in ALWAYS_TOLD[:3]
        ]
        self.states = [
            *ready,
            not_deployed("ui", "nothing serves it"),
            unknown("gateway", "look there"),
        ]
        self.running: list[ServerState] = []
        self.restarted: list[str] = []
        self.recorded: list[Restart] = []
        self.fault = ""  # why nothing answers
        self.record_fault = ""  # why restarts cannot be recorded

    def components(self) -> Sequence[ComponentState]:
        return self.states

    def servers(self) -> Sequence[ServerState]:
        if self.fault:
            raise Retryable(self.fault)
        return self.running

    def restart(self, keys: Sequence[str]) -> None:
        for key in keys:
            require_restartable(key, self.states)
        if self.fault:
            raise Retryable(self.fault)
        told = {each.component for each in self.recorded}
        assert told.issuperset(keys), "what is done was to be recorded before"
        self.restarted += keys

    def record(self, restarts: Sequence[Restart]) -> None:
        """Stands where the audit trail is told of restarts."""
        if self.record_fault:
            raise Retryable(self.record_fault)
        self.recorded += restarts

    def set(self, key: str, **members: object) -> None:
        """Change the state of a component."""
        self.states = [
            msgspec.structs.replace(each, **members) if each.key == key else each
            for each in self.states
        ]


def told_runtime(cluster: ToldCluster | None = None, **others: Any) -> Runtime:
    """Of a cluster that is all well, without an event log.

    Args:
        others: members of Runtime.
    """
    told = cluster or ToldCluster()
    given: dict[str, Any] = {
        "letters": None,
        "cluster": told,
        "record_restarts": told.record,
        "cooldown": Cooldown(0.0, lambda: 0.0),
        "fault": lambda: "",
    }
    return Runtime(**given | others)
