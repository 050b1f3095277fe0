"""What a run knows of its parts beside the backend: its sidecar, and the server behind it."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from backend.cli.console import Failure
from backend.cli.control import PROGRAMS
from backend.cli.processes import Child
from backend.cli.running import get_json
from backend.cli.stack import Stack, http_probe
from backend.cli.supervisor import Supervisor
from backend.ports.cluster import (
    DISPLAY,
    ComponentState,
    Kept,
    ServerState,
    SidecarState,
    Status,
    not_deployed,
)

ANSWER_SECONDS: Final = 3.0
NOT_HERE: Final = "`sentinel up` runs none"
SILENT: Final = "it does not answer; see its log in the state folder"


@dataclass(frozen=True, slots=True)
class Observer:
    """Asks the programs of a run how they are.

    Args:
        session: an open session.
    """

    stack: Stack
    supervisor: Supervisor
    session: aiohttp.ClientSession

    async def kept(self) -> Kept:
        """All that it tells the api."""
        point, envoy_serves, server_answers, ui_serves = await asyncio.gather(
            self._point(), self._serves("envoy"), self._server_answers(), self._serves("ui")
        )
        sidecar = self._sidecar(point, envoy_serves=envoy_serves)
        others = (self._ui(serves=ui_serves), not_deployed("gateway", NOT_HERE), sidecar)
        return Kept(others, (self._server(point, sidecar, server_answers),))

    def _sidecar(self, point: dict[str, Any], *, envoy_serves: bool) -> ComponentState:
        fault = str(point.get("fault", SILENT)) if point else f"decision-point: {SILENT}"
        if not fault and not envoy_serves:
            fault = f"envoy: {SILENT}"
        events = point.get("events") or {}
        warnings = [str(each.get("text", "")) for each in point.get("faults") or ()]
        if events.get("away"):
            warnings.append("ingest is out of reach; events wait on disk")
        status = Status.NOT_READY if fault else Status.DEGRADED if warnings else Status.READY
        children = [
            child for child in self._children() if child.program.name in PROGRAMS["sidecar"]
        ]
        return ComponentState(
            key="sidecar",
            display=DISPLAY["sidecar"],
            status=status,
            kind="Process",
            resource=", ".join(child.program.name for child in children),
            ready="0/1" if fault else "1/1",
            message=fault or "; ".join(warnings),
            version=str(point.get("version", "")),
            started_at=str(point.get("started_at", "")),
            restarts=max((child.starts - 1 for child in children), default=0),
            lag=events.get("pending", 0) + events.get("spooled", 0) if events else None,
            last_error=warnings[0] if warnings else "",
        )

    def _ui(self, *, serves: bool) -> ComponentState:
        [child] = [each for each in self._children() if each.program.name in PROGRAMS["ui"]]
        return ComponentState(
            key="ui",
            display=DISPLAY["ui"],
            status=Status.READY if serves else Status.NOT_READY,
            kind="Process",
            resource=child.program.name,
            ready="1/1" if serves else "0/1",
            message="" if serves else SILENT,
            restarts=max(0, child.starts - 1),
        )

    def _server(
        self, point: dict[str, Any], sidecar: ComponentState, server_answers: bool
    ) -> ServerState:
        namespace, name = self.stack.server
        runs = SidecarState(
            name="sidecar",
            revision=str((point.get("policy") or {}).get("revision") or ""),
            is_ready=sidecar.status is not Status.NOT_READY,
        )
        return ServerState(
            namespace=namespace,
            name=name,
            endpoint=self.stack.endpoints.mcp,
            ready=int(server_answers),
            wanted=1,
            cluster=str((point.get("server") or {}).get("cluster") or ""),
            sidecars=(runs,),
        )

    def _children(self) -> list[Child]:
        return self.supervisor.children

    async def _point(self) -> dict[str, Any]:
        """The decision point's own status; empty where it does not answer."""
        url = f"{self.stack.operations}/config/status"
        try:
            found = await get_json(self.session, url, answer_seconds=ANSWER_SECONDS)
        except Failure:
            return {}
        return found if isinstance(found, dict) else {}

    async def _serves(self, name: str) -> bool:
        child = next((each for each in self._children() if each.program.name == name), None)
        if child is None or not child.pid:
            return False
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return await child.program.is_ready()
        except TimeoutError:
            return False

    async def _server_answers(self) -> bool:
        return await http_probe(self.session, self.stack.upstream, any_status=True)()
