"""What is wrong, or hardly meant so, with custom resources that each can be read by itself."""

from collections.abc import Iterator
from dataclasses import dataclass

from backend.cli.access import Access
from extauthz.core.compile import compile_document
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.fields import nearest
from extauthz.core.manifests import Fault, Placed
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer, ToolRule, ToolSpec
from extauthz.core.policy import LEVELS, RANKS
from extauthz.core.times import parse_instant

Named = dict[ObjectRef, MCPServer]


@dataclass(frozen=True, slots=True)
class Findings:
    """Errors stop a policy from running; warnings say what has no effect or too much."""

    errors: tuple[Fault, ...]
    warnings: tuple[Fault, ...]


def lint(access: Access, now: float, *, is_folder: bool) -> Findings:
    """Check objects against each other.

    Args:
        access: what was read.
        now: seconds since the epoch, for what has expired.
        is_folder: a single file without a server may belong to one elsewhere.
    """
    errors = [*access.faults, *_duplicates(access)]
    if not errors:
        errors += _undocumentable(access, now)
    warnings: list[Fault] = []
    servers = {ObjectRef(server.namespace, server.name): server for server in access.servers}
    for placed in access.objects:
        resource = placed.resource
        if isinstance(resource, MCPServer):
            continue
        warnings += _expired(placed, resource, now)
        server = servers.get(resource.server)
        if server is None:
            if is_folder or servers:
                warnings.append(_unknown_server(placed, resource, servers))
            continue
        warnings += _foreign(placed, resource, server)
        if isinstance(resource, MCPAccessGrant):
            warnings += _grant(placed, resource, server)
    return Findings(tuple(errors), tuple(warnings))


def _duplicates(access: Access) -> Iterator[Fault]:
    seen: dict[tuple[str, str, str], Placed] = {}
    for placed in access.objects:
        resource = placed.resource
        key = (type(resource).__name__, resource.namespace, resource.name)
        if first := seen.setdefault(key, placed):
            if first is placed:
                continue
            kind, name = key[0], f"{resource.namespace}/{resource.name}"
            where = f"{first.file}:{first.document.line}"
            problem = f"second {kind} `{name}`, the first is at {where}"
            yield placed.fault("metadata.name", problem, "keep one of them")


def _undocumentable(access: Access, now: float) -> Iterator[Fault]:
    """Servers whose objects together make no document that a sidecar would run."""
    for placed in access.objects:
        if isinstance(placed.resource, MCPServer):
            try:
                compile_document(access.document(placed.resource, now))
            except Invalid as error:
                yield placed.fault(error.field, error.problem, error.mend)


def _expired(
    placed: Placed, resource: MCPAccessGrant | MCPAgentSession, now: float
) -> Iterator[Fault]:
    end = resource.expires_at
    if end and now >= parse_instant(end, "spec.expiresAt"):
        yield placed.fault("spec.expiresAt", f"expired at {end}", "set a later time or remove it")


def _unknown_server(
    placed: Placed, resource: MCPAccessGrant | MCPAgentSession, servers: Named
) -> Fault:
    near = nearest(str(resource.server), frozenset(map(str, servers)))
    mend = f"did you mean `{near}`?" if near else "add it, or mend the reference"
    return placed.fault("spec.serverRef", f"no MCPServer `{resource.server}` is here", mend)


def _foreign(
    placed: Placed, resource: MCPAccessGrant | MCPAgentSession, server: MCPServer
) -> Iterator[Fault]:
    if resource.namespace not in {server.namespace, *server.policy.allowed_namespaces}:
        yield placed.fault(
            "spec.serverRef",
            f"does not count: `{resource.server}` takes nothing from namespace "
            f"`{resource.namespace}`",
            "move it, or add the namespace to the server's policy.allowedNamespaces",
        )


def _grant(placed: Placed, grant: MCPAccessGrant, server: MCPServer) -> Iterator[Fault]:
    if grant.tool_rules and all(rule.decision == "deny" for rule in grant.tool_rules):
        mend = "add a rule that allows, or another grant"
        yield placed.fault("spec.toolRules", "has deny rules alone: it allows nothing", mend)
    declared = {tool.name: tool for tool in server.tools}
    for i, rule in enumerate(grant.tool_rules):
        path = f"spec.toolRules[{i}]"
        tool = declared.get(rule.name)
        if tool is None:
            near = nearest(rule.name, frozenset(declared))
            mend = f"did you mean `{near}`?" if near else "declare it, or remove the rule"
            problem = f"`{grant.server}` declares no tool `{rule.name}`"
            yield placed.fault(f"{path}.name", problem, mend)
        elif rule.decision == "allow":
            yield from _unreachable(placed, grant, path, rule, tool)
    if not grant.tool_rules and not grant.allowed_side_effects:
        yield from _covers_destructive(placed, grant, server)


def _unreachable(
    placed: Placed, grant: MCPAccessGrant, path: str, rule: ToolRule, tool: ToolSpec
) -> Iterator[Fault]:
    needed = max(RANKS[tool.required_trust], RANKS.get(rule.required_trust, 0))
    if RANKS[grant.max_trust] < needed:
        problem = f"never allows `{tool.name}`: it needs {LEVELS[needed]}, maxTrust is "
        yield placed.fault(path, problem + grant.max_trust, "raise maxTrust, or remove the rule")
    if grant.allowed_side_effects and tool.side_effect not in grant.allowed_side_effects:
        effect = tool.side_effect or "of no declared side effect"
        problem = f"never allows `{tool.name}`: it is {effect}, which allowedSideEffects leaves out"
        yield placed.fault(path, problem, "extend allowedSideEffects, or remove the rule")


def _covers_destructive(
    placed: Placed, grant: MCPAccessGrant, server: MCPServer
) -> Iterator[Fault]:
    if server.policy.side_effect_guard == "required":
        return
    reached = [
        tool.name
        for tool in server.tools
        if tool.side_effect == "destructive"
        and RANKS[tool.required_trust] <= RANKS[grant.max_trust]
    ]
    if reached:
        problem = f"allows destructive tools too, such as `{reached[0]}`"
        yield placed.fault("spec", problem, "list allowedSideEffects if that is not meant")
