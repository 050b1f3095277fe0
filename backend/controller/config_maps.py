"""A copy of each document as ConfigMap `<server>-gateway-policy`, for mcp-runtime's gateway."""

import asyncio
import logging
from collections.abc import Callable
from typing import Final

import orjson

from backend.controller.conditions import CONFLICT, TOO_LARGE
from backend.controller.hub import Hub
from backend.ports.control_plane import (
    POLICY_MAP,
    POLICY_MEMBER,
    Condition,
    ControlPlane,
    Standing,
)
from extauthz.core.canonical import canonical
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid, SentinelError

AUTHORITY: Final = "mcp-sentinel-controller-ca"
AUTHORITY_MEMBER: Final = "ca.crt"
MOST_BYTES: Final = 1_000_000  # an object of the API server holds 1 MiB
GATHER_SECONDS: Final = 1.0
RETRY_SECONDS: Final = 5.0

_log = logging.getLogger(__name__)


class ConfigMaps:
    """Writes them, one after the other; never one that is not ours.

    Args:
        standing: a server as the API server has it; None where it is gone.
        told: called for each server of which something else is wrong now than before.
        authority: PEM of who signs the controller's certificate; empty where another does.
    """

    def __init__(
        self,
        control: ControlPlane,
        hub: Hub,
        *,
        standing: Callable[[ObjectRef], Standing | None],
        told: Callable[[ObjectRef], None],
        authority: Callable[[], bytes],
    ) -> None:
        self._control, self._hub, self._standing, self._told = control, hub, standing, told
        self._authority = authority
        self._due: dict[ObjectRef, None] = {}
        self._wake = asyncio.Event()
        self._faults: dict[ObjectRef, Condition] = {}
        self._written: dict[ObjectRef, str] = {}  # the revision that stands there
        self._told_ca: dict[str, bytes] = {}  # by namespace

    def fault(self, server: ObjectRef) -> Condition | None:
        """What is wrong with a server's copy."""
        return self._faults.get(server)

    def mark(self, server: ObjectRef) -> None:
        """Its document may be another now."""
        document = self._hub.document(server)
        if document is None:
            self._faults.pop(server, None)
            self._written.pop(server, None)
        elif self._written.get(server) != document.revision:
            self._due[server] = None
            self._wake.set()

    def look_again(self, server: ObjectRef) -> None:
        """The MCPServer itself changed: what was another's may have been adopted."""
        fault = self._faults.get(server)
        if fault is not None and fault.type == CONFLICT:
            self._written.pop(server, None)
            self.mark(server)

    async def run(self) -> None:
        """Write, until cancelled."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHER_SECONDS)
            due, self._due = self._due, {}
            self._wake.clear()
            for number, server in enumerate(due):
                try:
                    await self._write(server)
                except Invalid as error:
                    told = {"server": str(server), "error": str(error)}
                    _log.error("a ConfigMap is refused", extra=told)
                except SentinelError as error:
                    told = {"server": str(server), "error": str(error)}
                    _log.warning("a ConfigMap cannot be written", extra=told)
                    self._due = {**dict.fromkeys(list(due)[number:]), **self._due}
                    self._wake.set()
                    await asyncio.sleep(RETRY_SECONDS)
                    break

    async def _write(self, server: ObjectRef) -> None:
        document, owner = self._hub.document(server), self._standing(server)
        if document is None or owner is None or document.revision == self._written.get(server):
            return
        await self._publish_authority(server.namespace)
        name, revision = POLICY_MAP.format(server.name), document.revision
        found = await self._control.config_map(server.namespace, name)
        if found is not None and not (found.is_ours and found.owner in {"", owner.uid}):
            mend = "`sentinel adopt` takes it over, or delete it"
            why = f"ConfigMap `{name}` is another's, and left alone; {mend}"
            self._blame(server, Condition(CONFLICT, "True", "NotOurs", why, 0))
        elif document.size > MOST_BYTES:
            if found is not None:  # an old policy is worse than none
                await self._control.delete_config_map(server.namespace, name)
            why = "the policy is too large for a ConfigMap; it is streamed to sidecars alone"
            self._blame(server, Condition(TOO_LARGE, "True", "StreamedOnly", why, 0))
        else:
            if found is None or _revision(found.data.get(POLICY_MEMBER, "")) != revision:
                data = {POLICY_MEMBER: canonical(document.whole()).decode()}
                await self._control.write_config_map(server.namespace, name, owner, data)
            self._blame(server, None)
        self._written[server] = revision

    async def _publish_authority(self, namespace: str) -> None:
        """Beside the servers' sidecars, which know the controller by it."""
        pem = self._authority()
        if not pem or self._told_ca.get(namespace) == pem:
            return
        found = await self._control.config_map(namespace, AUTHORITY)
        data = {AUTHORITY_MEMBER: pem.decode()}
        if found is None or (found.is_ours and found.data != data):
            await self._control.write_config_map(namespace, AUTHORITY, None, data)
        self._told_ca[namespace] = pem

    def _blame(self, server: ObjectRef, fault: Condition | None) -> None:
        if self._faults.get(server) == fault:
            return
        if fault is None:
            self._faults.pop(server, None)
        else:
            self._faults[server] = fault
        self._told(server)


def _revision(text: str) -> str:
    """The content digest that a written document names; empty where it is none of ours."""
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError:
        return ""
    return str(document.get("content_digest") or "") if isinstance(document, dict) else ""
