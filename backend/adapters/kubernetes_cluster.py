"""Cluster on Kubernetes, as the api asks: the workloads of its namespace."""

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import Any, Final, TypeVar

import msgspec

from backend.adapters.kubernetes_cluster_states import WORKLOADS
from backend.adapters.kubernetes_cluster_workloads import NO_WORKLOAD, KubernetesWorkloads
from backend.ports.cluster import (
    ComponentState,
    ServerState,
    in_restart_order,
    require_restartable,
)
from extauthz.core.errors import Conflict, Retryable, SentinelError

ANSWER_SECONDS: Final = 30.0
ROLLOUT_SECONDS: Final = 600.0  # as Deployments themselves give up
POLL_SECONDS: Final = 1.0

T = TypeVar("T")

_log = logging.getLogger(__name__)


class KubernetesCluster:
    """Blocking; call it from any thread but the loop's own.

    Args:
        loop: the loop that `workloads` works on.
    """

    def __init__(self, workloads: KubernetesWorkloads, loop: asyncio.AbstractEventLoop) -> None:
        self._workloads, self._loop = workloads, loop
        self._restarts: set[asyncio.Task[None]] = set()  # the loop itself would let go of them
        self._failed: dict[str, str] = {}

    def components(self) -> Sequence[ComponentState]:
        return [
            msgspec.structs.replace(each, last_error=self._failed.get(each.key, each.last_error))
            for each in self._run(self._workloads.components())
        ]

    def servers(self) -> Sequence[ServerState]:
        return self._run(self._workloads.servers())

    def restart(self, keys: Sequence[str]) -> None:
        states = self.components()
        for key in keys:
            require_restartable(key, states)
        # Of all, the sidecars are left out: they run in pods that are not ours.
        ours = [key for key in keys if key in WORKLOADS]
        if not ours:
            raise Conflict(NO_WORKLOAD.format(keys[0]))
        self._run(self._begin(in_restart_order(ours)))

    async def close(self) -> None:
        """What is being restarted goes on, and is not watched any more."""
        for each in self._restarts:
            each.cancel()
        await asyncio.gather(*self._restarts, return_exceptions=True)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(ANSWER_SECONDS)
        except TimeoutError as error:
            future.cancel()
            raise Retryable("the API server does not answer in time; try again") from error

    async def _begin(self, keys: Sequence[str]) -> None:
        """The first at once, so that a missing right is told to who asked."""
        for key in keys:
            self._failed.pop(key, None)
        await self._workloads.begin_restart(keys[0])
        restarting = asyncio.create_task(self._go_on(keys), name="restart")
        self._restarts.add(restarting)
        restarting.add_done_callback(self._restarts.discard)

    async def _go_on(self, keys: Sequence[str]) -> None:
        """One after the other, so that no more than one is away; what fails stops none."""
        for number, key in enumerate(keys):
            try:
                if number:
                    await self._workloads.begin_restart(key)
                await self._rolled_out(key)
            except SentinelError as error:
                self._failed[key] = f"its restart failed: {error}"
                _log.warning("a restart failed", extra={"unit": key, "error": str(error)})

    async def _rolled_out(self, key: str) -> None:
        """Raises: Retryable: it does not come to an end."""
        rollout = None
        try:
            async with asyncio.timeout(ROLLOUT_SECONDS):
                while not (rollout := await self._workloads.rollout(key)).is_done:
                    if rollout.is_stuck:
                        break
                    await asyncio.sleep(POLL_SECONDS)
        except TimeoutError:
            pass
        if rollout is None or not rollout.is_done:
            why = (rollout.fault or rollout.told) if rollout else "the API server does not answer"
            raise Retryable(f"it does not serve again: {why}")
