"""Cluster on one machine: tasks of this process, and what `sentinel up` runs beside it."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import msgspec

from backend.adapters.local_keeper import Keeper
from backend.lifecycle import Units
from backend.operations import Health
from backend.ports.cluster import (
    ALWAYS_TOLD,
    DISPLAY,
    ComponentState,
    ServerState,
    Status,
    in_restart_order,
    require_restartable,
    unknown,
)
from extauthz.core.errors import Retryable, SentinelError
from extauthz.core.times import format_instant

ANSWER_SECONDS: Final = 10.0
UNREACHABLE: Final = (
    "not a part of this process; ask its own /ready, or run it under `sentinel up`, which knows it"
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class OwnComponent:
    """A component that is a task of this process.

    Args:
        lag: events that wait for it; None where nothing waits.
    """

    health: Health
    lag: Callable[[], int | None] | None = None


class LocalCluster:
    """Blocking; call it from any thread but the loop's own.

    Args:
        own: this process's components by key; the keys are names of units, too.
        loop: the loop that the units run on.
        keeper: what runs the rest; None where nothing tells of it.
        version: of this software.

    Raises:
        ValueError: a component that the table of them lacks.
    """

    def __init__(
        self,
        units: Units,
        own: Mapping[str, OwnComponent],
        loop: asyncio.AbstractEventLoop,
        *,
        keeper: Keeper | None,
        version: str,
    ) -> None:
        if strangers := sorted(own.keys() - DISPLAY.keys()):
            raise ValueError(f"no components: {strangers}; add them to `PARTS`")
        self._units, self._own, self._loop = units, own, loop
        self._keeper, self._version = keeper, version
        self._restarts: set[asyncio.Task[None]] = set()  # the loop itself would let go of them
        self._failed: dict[str, str] = {}

    def components(self) -> Sequence[ComponentState]:
        return self._run(self._components())

    def servers(self) -> Sequence[ServerState]:
        if self._keeper is None:
            return ()
        return self._run(self._keeper.servers())

    def restart(self, keys: Sequence[str]) -> None:
        states = self.components()
        for key in keys:
            require_restartable(key, states)
        self._run(self._begin(in_restart_order(keys)))

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(ANSWER_SECONDS)
        except TimeoutError as error:
            future.cancel()
            raise Retryable("the components do not answer in time; try again") from error

    async def _components(self) -> list[ComponentState]:
        own = {key: await self._state(key, each) for key, each in self._own.items()}
        told: dict[str, ComponentState] = {}
        mend = UNREACHABLE
        if self._keeper is not None:
            try:
                told = {each.key: each for each in await self._keeper.components()}
            except Retryable as error:
                mend = str(error)
        found = {key: unknown(key, mend) for key in ALWAYS_TOLD} | told | own
        return [self._with_failure(found[key]) for key in DISPLAY if key in found]

    async def _state(self, key: str, own: OwnComponent) -> ComponentState:
        unit, faults = self._units.state(key), await own.health.faults()
        status = Status.NOT_READY if unit.fault else Status.DEGRADED if faults else Status.READY
        message = unit.fault or "; ".join(f"{name}: {fault}" for name, fault in faults.items())
        return ComponentState(
            key=key,
            display=DISPLAY[key],
            status=status,
            kind="Task",
            resource=f"backend/{key}",
            ready="0/1" if unit.fault else "1/1",
            message=message,
            version=self._version,
            started_at=format_instant(unit.started_at) if unit.started_at else "",
            restarts=unit.restarts,
            lag=own.lag() if own.lag else None,
            last_error=unit.last_error or own.health.last_fault,
        )

    def _with_failure(self, state: ComponentState) -> ComponentState:
        if failed := self._failed.get(state.key):
            return msgspec.structs.replace(state, last_error=failed)
        return state

    async def _begin(self, keys: Sequence[str]) -> None:
        for key in keys:
            self._failed.pop(key, None)
        restarting = asyncio.create_task(self._restart(keys), name="restart")
        self._restarts.add(restarting)
        restarting.add_done_callback(self._restarts.discard)

    async def _restart(self, keys: Sequence[str]) -> None:
        """One after the other, so that no more than one is away; what fails stops none."""
        for key in keys:
            try:
                if key in self._own:
                    await self._units.restart(key)
                elif self._keeper is not None:
                    await self._keeper.restart(key)
            except SentinelError as error:
                self._failed[key] = f"its restart failed: {error}"
                _log.warning("a restart failed", extra={"unit": key, "error": str(error)})
