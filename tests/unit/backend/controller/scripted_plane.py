"""A cluster's API server that says what a test tells it to."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from backend.ports.control_plane import (
    Caller,
    Condition,
    ConfigMap,
    Lease,
    Listing,
    Note,
    Observed,
    PolicyStatus,
    Secret,
    Standing,
)
from backend.ports.network import Pod
from extauthz.core.errors import Conflict
from extauthz.core.governance import Key


class ScriptedPlane:
    """Attributes: what it has, and what was asked of it; `fault` is raised where it is set."""

    def __init__(self) -> None:
        self.fault: Exception | None = None
        self.listings: deque[Listing | Exception] = deque()
        self.happens: asyncio.Queue[Observed | Exception] = asyncio.Queue()
        self.callers: dict[str, Caller] = {}
        self.labels: dict[str, Mapping[str, str]] = {}
        self.reviews = 0
        self.secrets: dict[str, Secret] = {}
        self.statuses: list[tuple[Key, tuple[Condition, ...], PolicyStatus | None]] = []
        self.refused: dict[Key, Exception] = {}
        self.notes: list[Note] = []
        self.config_maps: dict[tuple[str, str], ConfigMap] = {}
        self.stands: Lease | None = None
        self.lease_news: asyncio.Queue[Lease] = asyncio.Queue()
        self.renewals = 0

    async def listed(self, kind: str) -> Listing:
        found = self.listings.popleft()
        if isinstance(found, Exception):
            raise found
        return found

    async def changes(self, kind: str, since: str) -> AsyncGenerator[Observed, None]:
        while True:
            found = await self.happens.get()
            if isinstance(found, Exception):
                raise found
            yield found

    async def write_status(
        self, standing: Standing, conditions: Sequence[Condition], policy: PolicyStatus | None
    ) -> None:
        self._check()
        if standing.key in self.refused:
            raise self.refused.pop(standing.key)
        self.statuses.append((standing.key, tuple(conditions), policy))

    async def review(self, token: str, audience: str) -> Caller | None:
        self._check()
        self.reviews += 1
        return self.callers.get(token)

    async def pod(self, caller: Caller) -> Pod | None:
        return Pod(self.labels.get(caller.pod, {}))

    @property
    def network(self) -> Any:
        return self  # it lists what it is told to

    async def lease(self) -> Lease | None:
        self._check()
        return self.stands

    async def write_lease(self, lease: Lease) -> Lease:
        self._check()
        if lease.version != (self.stands.version if self.stands else ""):
            raise Conflict("the lease was changed meanwhile")
        return self.put_lease(lease)

    def put_lease(self, lease: Lease) -> Lease:
        """As somebody else writes it."""
        self.renewals += 1
        number = str(self.renewals)
        self.stands = replace(lease, version=number, renewed_at=number)
        self.lease_news.put_nowait(self.stands)
        return self.stands

    async def lease_changes(self) -> AsyncGenerator[Lease, None]:
        while True:
            yield await self.lease_news.get()

    async def note(self, note: Note) -> None:
        self.notes.append(note)

    async def config_map(self, namespace: str, name: str) -> ConfigMap | None:
        self._check()
        return self.config_maps.get((namespace, name))

    async def write_config_map(
        self, namespace: str, name: str, owner: Standing | None, data: Mapping[str, str]
    ) -> None:
        uid = owner.uid if owner else ""
        self.config_maps[namespace, name] = ConfigMap(uid, is_ours=True, data=data)

    async def delete_config_map(self, namespace: str, name: str) -> None:
        del self.config_maps[namespace, name]

    async def secret(self, name: str) -> Secret | None:
        self._check()
        return self.secrets.get(name)

    async def write_secret(self, name: str, secret: Secret) -> None:
        before = self.secrets.get(name)
        if secret.version != (before.version if before else ""):
            raise Conflict("the secret was changed meanwhile")
        self.secrets[name] = replace(secret, version=f"{secret.version}x")

    def _check(self) -> None:
        if self.fault:
            raise self.fault
