"""`/runtime/policy`: the policy document of a server, as its sidecars get it."""

from http import HTTPStatus
from typing import Any, Final

import msgspec
from flask import Response
from msgspec import UNSET, UnsetType

from backend.api.answers import json_response
from backend.api.parameters import text
from backend.api.refusals import bad_parameter
from backend.api.routes import Answer, Call, Group, Needs, get
from backend.auth.principal import Scope
from backend.ports.access_store import AccessStore
from backend.ports.cluster import Cluster
from backend.rendering import Bindings, rendered
from extauthz.core.errors import Conflict, Forbidden, Retryable
from extauthz.core.model import DEFAULT_NAMESPACE, MCPServer

NAMESPACE: Final = text("namespace", "Namespace of the MCP server; `mcp-servers` when left out.")
SERVER: Final = text("server", "Name of the MCP server.")
SOURCE: Final = "rendered from the custom resources as they are now"
Members = dict[str, Any]  # of the document, which is versioned by its `schema_version`


class PolicyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The document's members, the document as text, and where it comes from."""

    schema_version: str
    revision: str
    content_digest: str
    generated_at: str
    server: Members
    auth: Members | UnsetType = UNSET
    policy: Members | UnsetType = UNSET
    session: Members | UnsetType = UNSET
    tools: list[Members] | UnsetType = UNSET
    grants: list[Members] | UnsetType = UNSET
    sessions: list[Members] | UnsetType = UNSET
    json: str
    source: str


def policy_group(access: AccessStore, cluster: Cluster) -> Group:
    """For who governs the namespace: the document names every subject and session."""

    def shown(call: Call[None]) -> Response:
        namespace, name = call.given[NAMESPACE] or DEFAULT_NAMESPACE, call.given[SERVER]
        within = call.caller.namespaces
        if within is not None and namespace not in within:
            raise Forbidden(f"forbidden namespace `{namespace[:64]}`; ask for one of your own")
        if not name:
            raise bad_parameter(SERVER.name, "is required", "name the MCP server")
        server = access.get(MCPServer, namespace, name).resource
        found = rendered(server, Bindings.of(access), cluster_name(cluster, server), call.given.now)
        if found.fault:
            mend = "see `sentinel policy check`; sidecars keep the last one that was good"
            raise Conflict(f"the objects of `{name}` make no policy: {found.fault}; {mend}")
        return json_response(PolicyAnswer(**found.document, json=found.text, source=SOURCE))

    route = get(
        "/runtime/policy",
        shown,
        "The policy document of a server, as its sidecars get it.",
        Answer(PolicyAnswer),
        NAMESPACE,
        SERVER,
        needs=Needs(Scope.GOVERN),
        problems=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    return Group("policy", [route])


def cluster_name(cluster: Cluster, server: MCPServer) -> str:
    """As the server's sidecars have it, so that the digest is theirs; empty where nobody tells."""
    wanted = (server.namespace, server.name)
    try:
        states = cluster.servers()
    except Retryable:
        return ""
    return next((each.cluster for each in states if (each.namespace, each.name) == wanted), "")
