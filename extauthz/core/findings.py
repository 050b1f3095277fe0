"""What is hardly meant so in a grant or session that can be read: it has no effect, or too much.

Pure; for the check of files and for what is changed over HTTP alike.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from extauthz.core.decision import ObjectRef
from extauthz.core.fields import nearest
from extauthz.core.model import (
    Binding,
    MCPAccessGrant,
    MCPServer,
    ToolRule,
    ToolSpec,
)
from extauthz.core.policy import LEVELS, RANKS
from extauthz.core.times import parse_instant


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that somebody should look at.

    Args:
        field: path within the object, such as `spec.toolRules[0]`.
        problem, mend: as in `Invalid`.
    """

    field: str
    problem: str
    mend: str


def findings(
    item: Binding, servers: Mapping[ObjectRef, MCPServer] | None, now: float
) -> Iterator[Finding]:
    """Look at one grant or session.

    Args:
        servers: all there are; None where they are elsewhere.
        now: seconds since the epoch, for what has expired.
    """
    yield from _expired(item, now)
    if servers is None:
        return
    server = servers.get(item.server)
    if server is None:
        yield unknown_server(item, servers)
        return
    yield from foreign(item, server)
    if isinstance(item, MCPAccessGrant):
        yield from _grant(item, server)
    elif item.revoked and not server.session.required:
        yield Finding(
            "spec.revoked",
            f"stops only calls that name the session: `{item.server}` requires none",
            "disable the subject's grants, or set the server's session.required",
        )


def unknown_server(item: Binding, servers: Mapping[ObjectRef, MCPServer]) -> Finding:
    """That its server is not among these, and which one may be meant."""
    near = nearest(str(item.server), frozenset(map(str, servers)))
    mend = f"did you mean `{near}`?" if near else "add it, or mend the reference"
    return Finding("spec.serverRef", f"no MCPServer `{item.server}` is here", mend)


def foreign(item: Binding, server: MCPServer) -> Iterator[Finding]:
    """Whether it stands in a namespace from which the server takes nothing."""
    if item.namespace not in {server.namespace, *server.policy.allowed_namespaces}:
        yield Finding(
            "spec.serverRef",
            f"does not count: `{item.server}` takes nothing from namespace `{item.namespace}`",
            "move it, or add the namespace to the server's policy.allowedNamespaces",
        )


def _expired(item: Binding, now: float) -> Iterator[Finding]:
    end = item.expires_at
    if end and now >= parse_instant(end, "spec.expiresAt"):
        yield Finding("spec.expiresAt", f"expired at {end}", "set a later time or remove it")


def _grant(grant: MCPAccessGrant, server: MCPServer) -> Iterator[Finding]:
    if grant.tool_rules and all(rule.decision == "deny" for rule in grant.tool_rules):
        mend = "add a rule that allows, or another grant"
        yield Finding("spec.toolRules", "has deny rules alone: it allows nothing", mend)
    yield from _evaded(grant, server)
    declared = {tool.name: tool for tool in server.tools}
    for i, rule in enumerate(grant.tool_rules):
        path = f"spec.toolRules[{i}]"
        tool = declared.get(rule.name)
        if tool is None:
            near = nearest(rule.name, frozenset(declared))
            mend = f"did you mean `{near}`?" if near else "declare it, or remove the rule"
            problem = f"`{grant.server}` declares no tool `{rule.name}`"
            yield Finding(f"{path}.name", problem, mend)
        if rule.decision == "allow":
            yield from _unreachable(grant, path, rule, tool)
    if not grant.tool_rules and not grant.allowed_side_effects:
        yield from _covers_destructive(grant, server)


def _evaded(grant: MCPAccessGrant, server: MCPServer) -> Iterator[Finding]:
    """A denied name under a default of allow: any other spelling of it is allowed."""
    if server.policy.default_decision != "allow":
        return
    for i, rule in enumerate(grant.tool_rules):
        if rule.decision == "deny":
            other = rule.name.upper() if rule.name.islower() else rule.name.lower()
            problem = (
                f"denies `{rule.name}` as spelled; `{grant.server}` allows all else, `{other}`"
            )
            yield Finding(
                f"spec.toolRules[{i}]",
                f"{problem} too",
                "set the server's policy.defaultDecision to deny, and allow tools by name",
            )
            return


def _unreachable(
    grant: MCPAccessGrant, path: str, rule: ToolRule, tool: ToolSpec | None
) -> Iterator[Finding]:
    needed = max(RANKS[tool.required_trust] if tool else 0, RANKS.get(rule.required_trust, 0))
    if RANKS[grant.max_trust] < needed:
        problem = f"never allows `{rule.name}`: it needs {LEVELS[needed]}, maxTrust is "
        yield Finding(path, problem + grant.max_trust, "raise maxTrust, or remove the rule")
    if tool and grant.allowed_side_effects and tool.side_effect not in grant.allowed_side_effects:
        effect = tool.side_effect or "of no declared side effect"
        problem = f"never allows `{tool.name}`: it is {effect}, which allowedSideEffects leaves out"
        yield Finding(path, problem, "extend allowedSideEffects, or remove the rule")


def _covers_destructive(grant: MCPAccessGrant, server: MCPServer) -> Iterator[Finding]:
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
        yield Finding("spec", problem, "list allowedSideEffects if that is not meant")
