"""`/runtime/servers`: the governed MCP servers, and where their policies are enforced."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from http import HTTPStatus
from typing import Final

import msgspec
from flask import Response

from backend.api.answers import json_response
from backend.api.filters import reach
from backend.api.parameters import Given, text
from backend.api.routes import Answer, Call, Group, get
from backend.auth.principal import Principal
from backend.ports.access_store import AccessStore, Stored
from backend.ports.cluster import Cluster, ServerState, Status
from backend.rendering import Bindings, Rendered, rendered
from extauthz.core.errors import Retryable
from extauthz.core.model import (
    DEFAULT_NAMESPACE,
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
    ToolSpec,
)
from extauthz.core.render import belongs
from extauthz.core.times import parse_instant

EVERY: Final = "*"  # which no namespace is called
NAMESPACE: Final = text(
    "namespace",
    "Namespace of the servers, `*` for all that the caller reaches. Left out: `mcp-servers`"
    " where the caller reaches it, else all that it does.",
)
NOBODY_TELLS: Final = "nobody tells where it runs; look at `/api/runtime/components`"


class Tool(msgspec.Struct, frozen=True, rename="camel"):
    """A tool that a server declares."""

    name: str
    description: str
    required_trust: str
    side_effect: str
    risk_level: str
    labels: dict[str, str]


class Enforcer(msgspec.Struct, frozen=True):
    """A sidecar of a server; `current` where it runs the policy as it stands now."""

    sidecar: str
    ready: bool
    policy_revision: str
    current: bool


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An MCP server.

    `status`: `Ready`; `Degraded` where one of its sidecars runs another policy or none;
    `NotReady` where it does not answer, no sidecar enforces its policy, or it has none.
    `access_json` is what MCP clients are configured with. `grants` and `sessions` are those that
    count for it, `active_` those of them that are in force. `prompts`, `resources`, `tasks` and
    `labels` are not known here.
    """

    name: str
    namespace: str
    ready: str
    status: Status
    message: str
    labels: dict[str, str]
    age: str
    endpoint: str
    tools: list[Tool]
    prompts: list[str]
    resources: list[str]
    tasks: list[str]
    access_json: str
    grants: int
    active_grants: int
    sessions: int
    active_sessions: int
    policy_mode: str
    policy_revision: str
    enforced: list[Enforcer]


class Servers(msgspec.Struct, frozen=True):
    """Sorted by namespace and name."""

    servers: list[Server]


def servers_group(access: AccessStore, cluster: Cluster) -> Group:
    """The scope `read`, limited to the caller's namespaces."""

    def listed(call: Call[None]) -> Response:
        within = namespaces(call.caller, call.given)
        only = next(iter(within)) if within and len(within) == 1 else ""
        stored = access.objects(MCPServer, only)
        states, message = _states(cluster)
        bindings, now = Bindings.of(access), call.given.now
        found = [
            _server(one, states.get((one.resource.namespace, one.resource.name)), bindings, now)
            for one in stored
            if within is None or one.resource.namespace in within
        ]
        if message:
            found = [msgspec.structs.replace(each, message=message) for each in found]
        return json_response(Servers(found))

    route = get(
        "/runtime/servers",
        listed,
        "The governed MCP servers, and where their policies are enforced.",
        Answer(Servers),
        NAMESPACE,
        problems=(HTTPStatus.FORBIDDEN,),
    )
    return Group("servers", [route])


def namespaces(caller: Principal, given: Given) -> frozenset[str] | None:
    """Those asked for; None for all. Raises: Forbidden."""
    asked = given[NAMESPACE]
    if asked == EVERY:
        return reach(caller)
    within = reach(caller, asked)
    if asked:
        return frozenset({asked})
    return frozenset({DEFAULT_NAMESPACE}) if _may(within) else within


def _may(within: frozenset[str] | None) -> bool:
    return within is None or DEFAULT_NAMESPACE in within


def _states(cluster: Cluster) -> tuple[Mapping[tuple[str, str], ServerState], str]:
    """What runs, by namespace and name; and why that is not known, empty where it is."""
    try:
        return {(each.namespace, each.name): each for each in cluster.servers()}, ""
    except Retryable as error:
        return {}, str(error)


def _server(
    stored: Stored[MCPServer], state: ServerState | None, bindings: Bindings, now: datetime
) -> Server:
    server = stored.resource
    policy = rendered(server, bindings, state.cluster if state else "", now)
    enforced = [
        Enforcer(each.name, each.is_ready, each.revision, each.revision == policy.digest)
        for each in (state.sidecars if state else ())
    ]
    grants = [each for each in bindings.grants if belongs(server, each)]
    sessions = [each for each in bindings.sessions if belongs(server, each)]
    status, message = _judged(policy, state, enforced)
    endpoint = state.endpoint if state else ""
    return Server(
        name=server.name,
        namespace=server.namespace,
        ready=f"{state.ready}/{state.wanted}" if state else "0/0",
        status=status,
        message=message,
        labels={},
        age=stored.created_at,
        endpoint=endpoint,
        tools=[_tool(each) for each in server.tools],
        prompts=[],
        resources=[],
        tasks=[],
        access_json=_client_configuration(server.name, endpoint) if endpoint else "",
        grants=len(grants),
        active_grants=_active(grants, now),
        sessions=len(sessions),
        active_sessions=_active(sessions, now),
        policy_mode=server.policy.mode,
        policy_revision=policy.digest,
        enforced=enforced,
    )


def _judged(
    policy: Rendered, state: ServerState | None, enforced: list[Enforcer]
) -> tuple[Status, str]:
    """How a server is, and what is wrong."""
    if policy.fault:
        return Status.NOT_READY, f"its objects make no policy: {policy.fault}"
    if state is None:
        return Status.NOT_READY, NOBODY_TELLS
    if not state.ready:
        return Status.NOT_READY, "the MCP server does not answer; look at its log"
    serving = [each for each in enforced if each.ready]
    if not serving:
        return Status.NOT_READY, "no sidecar decides its calls; look at `/api/runtime/components`"
    late = [each.sidecar for each in enforced if not (each.ready and each.current)]
    if late or state.ready < state.wanted:
        return (
            Status.DEGRADED,
            f"not with the current policy: {', '.join(late) or 'some instances'}",
        )
    return Status.READY, ""


def _active(items: Iterable[MCPAccessGrant | MCPAgentSession], now: datetime) -> int:
    """How many are neither switched off nor expired."""
    return sum(
        not (each.disabled if isinstance(each, MCPAccessGrant) else each.revoked)
        and not (each.expires_at and parse_instant(each.expires_at, "") <= now.timestamp())
        for each in items
    )


def _tool(tool: ToolSpec) -> Tool:
    return Tool(
        tool.name,
        tool.description,
        tool.required_trust,
        tool.side_effect,
        tool.risk_level,
        dict(tool.labels),
    )


def _client_configuration(name: str, endpoint: str) -> str:
    return json.dumps({"mcpServers": {name: {"type": "http", "url": endpoint}}}, indent=2)
