"""Who can call what, and what nobody calls: asked of an api, or worked out from the objects."""

import asyncio
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from urllib.parse import urlencode

import aiohttp
import msgspec

from backend.cli.console import Failure
from backend.cli.running import Api, get_json
from backend.decision_forms import AskedServer
from backend.entitlement_forms import NamedCaller, WhatCanAnswer, what_can_of, who_can_answer
from backend.ports.access_store import AccessStore
from backend.rendering import Bindings, compiled
from extauthz.core.decision import ObjectRef
from extauthz.core.entitlements import what_can, who_can
from extauthz.core.errors import Conflict, NotFound
from extauthz.core.model import MCPServer
from extauthz.core.request import Identity

Told = dict[str, Any]  # as the api sends it

ANSWER_SECONDS = 60.0  # a hundred thousand grants take a while to compile
_EVERYWHERE: Final = ObjectRef("", "")


class Answers(Protocol):
    """The access tools. Every method raises SentinelError or Failure."""

    def who_can(self, tool: str, server: ObjectRef, most: int) -> Told:
        """Who can call a tool of a server, at most so many callers."""

    def what_can(self, caller: Identity, server: ObjectRef) -> Told:
        """What a caller can call on a server; an empty one stands for all."""

    def unused(self, query: Mapping[str, str]) -> Told:
        """Grants and rules that no call used."""


class ApiAnswers:
    """By the routes `/api/runtime/access/…`."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def who_can(self, tool: str, server: ObjectRef, most: int) -> Told:
        place = {"server": server.name, "namespace": server.namespace}
        return self._ask("who-can", {"tool": tool, **place, "limit": str(most)})

    def what_can(self, caller: Identity, server: ObjectRef) -> Told:
        who = {
            "human_id": caller.human_id,
            "agent_id": caller.agent_id,
            "team_id": caller.team_id,
            "session_id": caller.session_id,
        }
        place = {"server": server.name, "namespace": server.namespace}
        return self._ask("what-can", who | place)

    def unused(self, query: Mapping[str, str]) -> Told:
        return self._ask("unused", query)

    def _ask(self, what: str, query: Mapping[str, str]) -> Told:
        asked = urlencode({name: value for name, value in query.items() if value})
        url = self._api.at(f"/api/runtime/access/{what}?{asked}")

        async def ask() -> Told:
            async with aiohttp.ClientSession() as session:
                told: Told = await get_json(
                    session, url, self._api.key, answer_seconds=ANSWER_SECONDS
                )
                return told

        return asyncio.run(ask())


class StoreAnswers:
    """From the custom resources of a store, all of them: none is left off.

    Args:
        tell_faults: warns of what cannot be read.
    """

    def __init__(self, store: AccessStore, tell_faults: Callable[[], None]) -> None:
        self._store, self._tell_faults = store, tell_faults

    def who_can(self, tool: str, server: ObjectRef, most: int) -> Told:
        self._tell_faults()
        found, now = self._server(server), datetime.now(UTC)
        policy = compiled(found, Bindings.of(self._store), "", now)
        callers = who_can(policy, tool, now.timestamp(), most)
        return _told(who_can_answer(AskedServer(server.namespace, server.name), policy, callers))

    def what_can(self, caller: Identity, server: ObjectRef) -> Told:
        self._tell_faults()
        servers = self._store.servers() if server == _EVERYWHERE else [self._server(server)]
        bindings, now = Bindings.of(self._store), datetime.now(UTC)
        answers, faults = [], []
        for each in servers:
            try:
                policy = compiled(each, bindings, "", now)
            except Conflict as error:
                faults.append(str(error))
                continue
            asked = AskedServer(each.namespace, each.name)
            answers.append(what_can_of(asked, policy, what_can(policy, caller, now.timestamp())))
        who = NamedCaller(caller.human_id, caller.agent_id, caller.team_id)
        return _told(WhatCanAnswer(caller=who, servers=answers, faults=faults, servers_left_off=0))

    def unused(self, query: Mapping[str, str]) -> Told:
        raise Failure(
            "what no call used is told by the record of the calls, which an api has;"
            " name one with --api"
        )

    def _server(self, ref: ObjectRef) -> MCPServer:
        try:
            return self._store.get(MCPServer, ref.namespace, ref.name).resource
        except NotFound as error:
            known = ", ".join(f"{s.namespace}/{s.name}" for s in self._store.servers(ref.namespace))
            mend = f"name one of {known}" if known else "look at `kubectl get mcps -A`"
            raise NotFound(f"no MCPServer `{ref}` here; {mend}") from error


def _told(answer: msgspec.Struct) -> Told:
    told: Told = msgspec.to_builtins(answer)
    return told
