"""Workloads of an installed Sentinel: their Deployments and pods, by the API server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

import msgspec

from backend.adapters.kubernetes_calls import ApiCalls
from backend.adapters.kubernetes_cluster_asking import Ask, by_tunnel, fault_of, lag_of, policy_of
from backend.adapters.kubernetes_cluster_sidecars import (
    selector_of_servers,
    server_state,
    sidecar_state,
    with_policy_age,
)
from backend.adapters.kubernetes_cluster_states import (
    ABSENT,
    PLURALS,
    WORKLOADS,
    Raw,
    Workload,
    happening_of,
    is_ready,
    pods_of,
    rollout_of,
    selector_of,
    states_of,
)
from backend.adapters.kubernetes_cluster_streams import log_lines, open_tunnel
from backend.ports.cluster import (
    ALWAYS_TOLD,
    DISPLAY,
    ComponentState,
    ServerState,
    Status,
    unknown,
)
from backend.ports.workloads import Happening, LogLine, LogRange, LogSource, Rollout, Tunnel
from extauthz.core.errors import Conflict, NotFound, Retryable, SentinelError
from extauthz.core.model import API_VERSION

RESTARTED_AT: Final = "kubectl.kubernetes.io/restartedAt"  # as kubectl marks its own restarts
MANAGER: Final = "sentinel-restart"  # another than the one that installs, which owns no such mark
MOST_SIDECARS: Final = 50  # that are asked; of more, these speak for all
NO_WORKLOAD: Final = "`{}` runs in your MCP servers' own pods; use kubectl on these"
_PAGE: Final = "500"
_MERGE: Final = "application/strategic-merge-patch+json"


class KubernetesWorkloads:
    """Workloads of one namespace.

    Args:
        clock: seconds since the epoch.
        ask: how pods are asked; None for tunnels, and then sidecars are asked, too.
    """

    def __init__(
        self, calls: ApiCalls, namespace: str, clock: Callable[[], float], ask: Ask | None = None
    ) -> None:
        self._calls, self._namespace, self._clock = calls, namespace, clock
        self._asks_sidecars = ask is None
        self._ask = ask or by_tunnel(self._open)
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._last_faults: dict[str, str] = {}

    async def components(self) -> Sequence[ComponentState]:
        try:
            found, pods = await self._found()
            states = {each.key: each for each in states_of(found, pods)}
            states |= {each.key: each for each in await self._sidecars()}
        except SentinelError as error:
            return [unknown(key, str(error)) for key in ALWAYS_TOLD]
        by_name = {each["metadata"]["name"]: each for each in found}
        told = [
            await self._asked(each, pods_of(by_name[each.resource], pods))
            if each.resource in by_name
            else each
            for each in (states[key] for key in DISPLAY if key in states)
        ]
        return [self._remembered(each) for each in told]

    async def servers(self) -> Sequence[ServerState]:
        """Those whose sidecars the controller tells of. Raises: Retryable."""
        return [server_state(each) for each in await self._servers()]

    async def begin_restart(self, key: str) -> None:
        place = self._place(key)
        now = datetime.fromtimestamp(self._clock(), UTC).isoformat(timespec="microseconds")
        template = {"metadata": {"annotations": {RESTARTED_AT: now}}}
        body = {"spec": {"template": template}}
        query = {"fieldManager": MANAGER}
        with _deployed(key):
            await self._calls.ask("PATCH", self._path(place), body, query=query, content=_MERGE)

    async def rollout(self, key: str) -> Rollout:
        workload = await self._workload(key)
        return rollout_of(workload, pods_of(workload, await self._listed(self._pods)))

    async def log_sources(self, key: str) -> Sequence[LogSource]:
        found = []
        for pod in await self._pods_of(key):
            spec = pod["spec"]
            for container in (*(spec.get("initContainers") or ()), *spec["containers"]):
                found.append(LogSource(pod["metadata"]["name"], container["name"]))
        return found

    def log_lines(self, source: LogSource, which: LogRange) -> AsyncIterator[LogLine]:
        return log_lines(self._calls, f"{self._pods}/{source.pod}", source.container, which)

    async def connect(self, key: str, port: int) -> Tunnel:
        pods = await self._pods_of(key)
        serving = [each for each in pods if is_ready(each)]
        if not serving:
            raise Retryable(f"no pod of `{key}` is ready; see `sentinel status`")
        return await self._open(serving[0], port)

    async def happenings(self) -> Sequence[Happening]:
        events = await self._listed(f"/api/v1/namespaces/{self._namespace}/events")
        return sorted((happening_of(each) for each in events), key=lambda each: each.at)

    async def _open(self, pod: Raw, port: int) -> Tunnel:
        meta = pod["metadata"]
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
        return await open_tunnel(self._calls, path, port)

    async def _found(self) -> tuple[list[Raw], list[Raw]]:
        """All workloads, each with its kind, and all pods of the namespace."""
        kinds = {each.plural: each.kind for each in WORKLOADS.values()}
        lists = [self._listed(self._path(plural)) for plural in PLURALS]
        *found, pods = await asyncio.gather(*lists, self._listed(self._pods))
        workloads = [
            each | {"kind": kinds[plural]}
            for plural, items in zip(PLURALS, found, strict=True)
            for each in items
        ]
        return workloads, pods

    async def _asked(self, state: ComponentState, pods: Sequence[Raw]) -> ComponentState:
        """With what only its pods know."""
        if state.key == "processor" and state.ready[:2] != "0/":
            return msgspec.structs.replace(state, lag=await lag_of(self._ask, pods))
        if state.status is not Status.READY and (fault := await fault_of(self._ask, pods)):
            return msgspec.structs.replace(state, message=fault, last_error=fault)
        return state

    async def _sidecars(self) -> list[ComponentState]:
        try:
            servers = await self._servers()
        except NotFound:  # no such custom resource
            return []
        state = sidecar_state(servers)
        if state is None:
            return []
        if self._asks_sidecars:
            pods = [
                pod
                for namespace, selector in selector_of_servers(servers).items()
                for pod in await self._listed(
                    f"/api/v1/namespaces/{namespace}/pods", {"labelSelector": selector}
                )
                if is_ready(pod)
            ]
            told = await policy_of(self._ask, pods[:MOST_SIDECARS])
            state = with_policy_age(state, told, self._clock())
        return [state]

    async def _servers(self) -> list[Raw]:
        return await self._listed(f"/apis/{API_VERSION}/mcpservers")

    async def _workload(self, key: str) -> Raw:
        place = self._place(key)
        with _deployed(key):
            return await self._calls.ask("GET", self._path(place))

    async def _pods_of(self, key: str) -> list[Raw]:
        workload = await self._workload(key)
        labels = ",".join(f"{name}={value}" for name, value in selector_of(workload).items())
        return pods_of(workload, await self._listed(self._pods, {"labelSelector": labels}))

    async def _listed(self, path: str, query: Mapping[str, str] | None = None) -> list[Raw]:
        items: list[Raw] = []
        asked = {"limit": _PAGE, **(query or {})}
        while True:
            page = await self._calls.ask("GET", path, query=asked)
            items += page["items"]
            following = page["metadata"].get("continue")
            if not following:
                return items
            asked["continue"] = following

    def _place(self, key: str) -> Workload:
        if key not in WORKLOADS:
            raise Conflict(NO_WORKLOAD.format(key))
        return WORKLOADS[key]

    def _path(self, place: Workload | str) -> str:
        plural = place if isinstance(place, str) else f"{place.plural}/{place.name}"
        return f"/apis/apps/v1/namespaces/{self._namespace}/{plural}"

    def _remembered(self, state: ComponentState) -> ComponentState:
        if state.last_error:
            self._last_faults[state.key] = state.last_error
        return msgspec.structs.replace(state, last_error=self._last_faults.get(state.key, ""))


@contextmanager
def _deployed(key: str) -> Iterator[None]:
    try:
        yield
    except NotFound as error:
        raise NotFound(f"the component `{key}` is not deployed here; {ABSENT}") from error
