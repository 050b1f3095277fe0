"""`/runtime/access/…`: who can call a tool, what a caller can call, what no call used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from typing import Final

from flask import Response

from backend.api.answers import json_response
from backend.api.filters import reach
from backend.api.parameters import Given, Parameter, count, moment, text
from backend.api.policy import cluster_name
from backend.api.refusals import bad_parameter
from backend.api.routes import GOVERN, Answer, Call, Group, get
from backend.auth.principal import Principal
from backend.decision_forms import AskedServer
from backend.entitlement_forms import (
    NamedCaller,
    UnusedAnswer,
    WhatCanAnswer,
    WhoCanAnswer,
    unused_entry,
    what_can_of,
    who_can_answer,
)
from backend.ports.access_store import AccessStore, Stored
from backend.ports.cluster import Cluster
from backend.ports.event_store import EventStore
from backend.queries import GrantUse
from backend.rendering import Bindings, compiled
from extauthz.core.decision import ObjectRef
from extauthz.core.entitlements import what_can, who_can
from extauthz.core.errors import Conflict, NotFound
from extauthz.core.model import DEFAULT_NAMESPACE, MCPAccessGrant, MCPServer
from extauthz.core.policy import Policy
from extauthz.core.request import Identity
from extauthz.core.times import format_instant
from extauthz.core.unused import Use, unused, uses_of

MOST_SERVERS: Final = 20  # of one answer
DEFAULT_DAYS: Final = 30

TOOL: Final = text("tool", "The tool; exactly as the server names it.")
SERVER: Final = text("server", "MCP server.")
NAMESPACE: Final = text("namespace", f"Namespace of the MCP server; `{DEFAULT_NAMESPACE}`.")
OF_NAMESPACE: Final = text("namespace", "Namespace; all that the credential reaches.")
HUMAN: Final = text("human_id", "Human on whose behalf the calls are made.")
AGENT: Final = text("agent_id", "Agent that makes them.")
TEAM: Final = text("team_id", "The caller's team; not the one that owns the server.")
SESSION: Final = text("session_id", "Session that the calls name; else each of the caller's own.")
SINCE: Final = moment("since", f"The earliest time, included; {DEFAULT_DAYS} days ago")
LIMIT: Final = count("limit", 100, 1000, "How many entries at most")


@dataclass(frozen=True, slots=True)
class Entitlements:
    """What the access tools answer, of the namespaces that the caller reaches."""

    store: EventStore
    access: AccessStore
    cluster: Cluster

    def callers(self, call: Call[None]) -> Response:
        """Who can call a tool."""
        given, now = call.given, call.given.now
        namespace = given[NAMESPACE] or DEFAULT_NAMESPACE
        reach(call.caller, namespace)
        name, tool = _required(given, SERVER), _required(given, TOOL)
        server = self.access.get(MCPServer, namespace, name).resource
        asked, policy = _policy(server, Bindings.of(self.access), self.cluster, now)
        found = who_can(policy, tool, now.timestamp(), given[LIMIT])
        return json_response(who_can_answer(asked, policy, found))

    def tools(self, call: Call[None]) -> Response:
        """What a caller can call."""
        given, now = call.given, call.given.now
        caller = Identity(given[HUMAN], given[AGENT], given[TEAM], given[SESSION])
        if caller.is_empty:
            problem = "nobody is asked about"
            raise bad_parameter("agent_id", problem, "give human_id, agent_id or team_id")
        servers, bindings = _servers(self.access, call.caller, given), Bindings.of(self.access)
        answers, faults = [], []
        for server in servers[:MOST_SERVERS]:
            try:
                asked, policy = _policy(server, bindings, self.cluster, now)
            except Conflict as error:
                faults.append(str(error))
                continue
            answers.append(what_can_of(asked, policy, what_can(policy, caller, now.timestamp())))
        return json_response(
            WhatCanAnswer(
                caller=NamedCaller(caller.human_id, caller.agent_id, caller.team_id),
                servers=answers,
                faults=faults,
                servers_left_off=len(servers[MOST_SERVERS:]),
            )
        )

    def unused(self, call: Call[None]) -> Response:
        """What no call used."""
        given = call.given
        within = reach(call.caller, given[OF_NAMESPACE])
        grants = [
            each
            for each in self.access.objects(MCPAccessGrant, given[OF_NAMESPACE])
            if (within is None or each.resource.namespace in within)
            and given[SERVER] in ("", each.resource.server.name)
        ]
        return json_response(_idle(self.store, grants, given))


def entitlements_group(store: EventStore, access: AccessStore, cluster: Cluster) -> Group:
    """The access tools; the scope `govern`, limited to the caller's namespaces."""
    asked = Entitlements(store, access, cluster)
    return Group(
        "entitlements",
        [
            get(
                "/runtime/access/who-can",
                asked.callers,
                "Who can call a tool: each subject that the policy names, with each session.",
                Answer(WhoCanAnswer),
                *(TOOL, SERVER, NAMESPACE, LIMIT),
                needs=GOVERN,
                problems=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
            ),
            get(
                "/runtime/access/what-can",
                asked.tools,
                "What a caller can call, on each server.",
                Answer(WhatCanAnswer),
                *(HUMAN, AGENT, TEAM, SESSION, SERVER, OF_NAMESPACE),
                needs=GOVERN,
                problems=(HTTPStatus.NOT_FOUND,),
            ),
            get(
                "/runtime/access/unused",
                asked.unused,
                "Grants and rules that no call used.",
                Answer(UnusedAnswer),
                *(SINCE, SERVER, OF_NAMESPACE, LIMIT),
                needs=GOVERN,
            ),
        ],
    )


def _required(given: Given, parameter: Parameter[str]) -> str:
    value, name = given[parameter], parameter.name
    if not value.strip():
        raise bad_parameter(name, "is required", f"give `{name}`")
    return value


def _policy(
    server: MCPServer, bindings: Bindings, cluster: Cluster, now: datetime
) -> tuple[AskedServer, Policy]:
    """Raises: Conflict: its objects make no policy."""
    name = cluster_name(cluster, server)
    asked = AskedServer(server.namespace, server.name, name)
    return asked, compiled(server, bindings, name, now)


def _servers(access: AccessStore, caller: Principal, given: Given) -> Sequence[MCPServer]:
    """Raises: NotFound: one is named and is not there."""
    within = reach(caller, given[OF_NAMESPACE])
    found = [
        each
        for each in access.servers(given[OF_NAMESPACE])
        if (within is None or each.namespace in within) and given[SERVER] in ("", each.name)
    ]
    if not found and given[SERVER]:
        raise NotFound(f"no MCPServer `{given[SERVER][:64]}` here; GET /api/runtime/servers")
    return found


def _idle(
    store: EventStore, grants: Sequence[Stored[MCPAccessGrant]], given: Given
) -> UnusedAnswer:
    now = given.now
    since = _midnight(given[SINCE] or now - timedelta(days=DEFAULT_DAYS))
    used = store.grant_use(since)
    uses = uses_of(_rows(used.uses))
    created = {(e.resource.namespace, e.resource.name): e.created_at for e in grants}
    entries = [
        unused_entry(each, created[each.grant.namespace, each.grant.name])
        for each in unused((each.resource for each in grants), uses, now.timestamp())
    ]
    first = used.stored_since
    return UnusedAnswer(
        since=_written(since),
        until=_written(now),
        stored_since=_written(first) if first else None,
        complete=first is not None and first <= since,
        notes=list(_notes(since, first)),
        grants_looked_at=len(grants),
        unused=entries[: given[LIMIT]],
        left_off=len(entries[given[LIMIT] :]),
    )


def _notes(since: datetime, first: datetime | None) -> Iterator[str]:
    if first is None:
        yield "no event is stored: what was used is not known"
    elif first > since:
        yield (
            f"events are stored from {_written(first)} on: what was used before is not known;"
            " EVENT_RETENTION_DAYS says how long they are kept"
        )


def _rows(uses: Sequence[GrantUse]) -> Iterator[tuple[ObjectRef, str, Use]]:
    for each in uses:
        last = each.last_seen.timestamp()
        yield (
            ObjectRef(each.namespace, each.grant),
            each.tool_name,
            Use(each.allowed, each.denied, last),
        )


def _midnight(at: datetime) -> datetime:
    """The one before: sums by days answer it, however many events there are."""
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _written(at: datetime) -> str:
    return format_instant(at.timestamp())
