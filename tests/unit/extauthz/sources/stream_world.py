"""A sidecar's end of the policy stream, for tests."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from extauthz.core.decision import PolicyFacts
from extauthz.core.request import Call, Identity
from extauthz.sources.policies import Policies
from extauthz.sources.stream.options import StreamOptions
from extauthz.sources.stream.source import StreamSource
from tests.tools.waiting import soon

ALLOWED, DENIED = "allow allowed", "deny no_matching_grant"


def grant(name: str, **members: Any) -> dict[str, Any]:
    """A grant for agent `ops`, unless the members say otherwise."""
    return {"name": name, "namespace": "home", "agent_id": "ops", "max_trust": "high", **members}


def document(*grants: dict[str, Any], **members: Any) -> dict[str, Any]:
    """The policy of MCPServer home/demo."""
    return {
        "schema_version": "v1",
        "generated_at": "2026-01-01T00:00:00Z",
        "server": {"name": "demo", "namespace": "home"},
        "grants": list(grants),
        **members,
    }


class World:
    """A stream source, what it keeps up to date, and the folder of its file."""

    def __init__(
        self,
        port: int,
        folder: Path,
        *,
        host: str = "127.0.0.1",
        clock: Callable[[], float] = time.time,
        **options: Any,
    ) -> None:
        self.options = StreamOptions(
            address=f"{host}:{port}",
            server="demo",
            namespace="home",
            gateway="gw-1",
            store=folder / "last-policy.db",
            plaintext="ca_file" not in options,
            retry_max_seconds=0.1,
        )
        self.options = replace(self.options, **options)
        self.policies = Policies(PolicyFacts(server="demo", namespace="home"))
        self.clock = clock
        self.source = StreamSource(self.options, self.policies, clock)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["World"]:
        stop = asyncio.Event()
        await self.source.look()
        following = asyncio.create_task(self.source.follow(stop))
        try:
            yield self
        finally:
            stop.set()
            await following

    def decide(self, agent: str = "ops", tool: str = "echo") -> str:
        call = Call(method="tools/call", tool=tool, rpc_id=1)
        identity = Identity(agent_id=agent)
        decision = self.policies.current.decide_call(call, identity, None, self.clock())
        return f"{decision.effect.value} {decision.reason.value}"

    async def decides(self, expected: str, agent: str = "ops") -> None:
        """Wait until a call of the agent is decided so."""
        await soon(lambda: self.decide(agent) == expected, expected)

    @property
    def faults(self) -> str:
        return "\n".join(map(str, self.policies.faults))

    async def faulty(self, text: str) -> None:
        """Wait for a fault that says so."""
        await soon(lambda: text in self.faults, text)

    async def mended(self) -> None:
        await soon(lambda: not self.faults, "no faults")
