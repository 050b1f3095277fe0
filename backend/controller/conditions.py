"""What the status of an object says, from what is known of it. Pure."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Final

from backend.ports.control_plane import Condition, Standing
from extauthz.core import findings
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer

ACCEPTED: Final = "Accepted"
ENFORCED: Final = "Enforced"
UNAUTHENTICATED: Final = "IdentityUnauthenticated"
SESSION_OPTIONAL: Final = "SessionOptional"
TOO_LARGE: Final = "ConfigMapTooLarge"
CONFLICT: Final = "ConfigMapConflict"
BYPASSABLE: Final = "Bypassable"
OURS: Final = frozenset(
    {ACCEPTED, ENFORCED, UNAUTHENTICATED, SESSION_OPTIONAL, TOO_LARGE, CONFLICT, BYPASSABLE}
)
_MOST: Final = 1_000  # characters of a message
_EXPIRED: Final = "spec.expiresAt"
_PLACE: Final = "spec.serverRef"


@dataclass(frozen=True, slots=True)
class Reach:
    """How far an object has come.

    Args:
        connected: sidecars of its server.
        enforcing: those of them that run it as it is.
        refusals: why others do not.
    """

    connected: int
    enforcing: int
    refusals: tuple[str, ...] = ()


def of_binding(
    standing: Standing,
    servers: Mapping[ObjectRef, MCPServer],
    fault: Invalid | None,
    reach: Reach,
    now: float,
) -> list[Condition]:
    """Of a grant or session.

    Args:
        fault: why it cannot be rendered for its server.
        now: seconds since the epoch.
    """
    accepted = _accepted(standing, servers, fault, now)
    return [accepted, _enforced(standing, accepted, reach)]


def of_server(
    standing: Standing, reach: Reach, *, has_sessions: bool, beside: Iterable[Condition | None]
) -> list[Condition]:
    """Of a server.

    Args:
        has_sessions: whether sessions of it count.
        beside: what is wrong around it: with its compatible copy, with the way to its pods.
    """
    server = standing.resource
    if not isinstance(server, MCPServer):
        why = f"{standing.fault}; what ran goes on"
        accepted = _condition(standing, ACCEPTED, "False", "Unreadable", why)
        return [accepted, _enforced(standing, accepted, reach)]
    accepted = _condition(standing, ACCEPTED, "True", "Accepted", "its policy is rendered")
    found = [accepted, _enforced(standing, accepted, reach)]
    if server.auth.mode == "header" and not server.auth.trusted_peers:
        why = "any pod that reaches the port can claim to be anybody; set auth.trustedPeers"
        found.append(_condition(standing, UNAUTHENTICATED, "True", "NoTrustedPeers", why))
    if has_sessions and not server.session.required:
        why = "a caller may leave its session out; set session.required"
        found.append(_condition(standing, SESSION_OPTIONAL, "True", "NotRequired", why))
    return found + [replace(each, generation=standing.generation) for each in beside if each]


def settle(standing: Standing, wanted: Iterable[Condition], now: str) -> list[Condition] | None:
    """What is to be written; None where the status says so already.

    What was enforced once in this generation stays so: a sidecar's restart is no news of a grant.

    Args:
        now: RFC 3339.
    """
    before = {each.type: each for each in standing.conditions if each.type in OURS}
    after = {each.type: _since(each, before.get(each.type), now) for each in wanted}
    return None if after == before else [*after.values()]


def _since(condition: Condition, before: Condition | None, now: str) -> Condition:
    if before is None:
        return replace(condition, since=now)
    is_settled = condition.type == ENFORCED and condition.status == "Unknown"
    if is_settled and (before.status, before.generation) == ("True", condition.generation):
        return before
    return replace(condition, since=before.since if before.status == condition.status else now)


def _accepted(
    standing: Standing,
    servers: Mapping[ObjectRef, MCPServer],
    fault: Invalid | None,
    now: float,
) -> Condition:
    item = standing.resource
    if not isinstance(item, MCPAccessGrant | MCPAgentSession):
        return _condition(standing, ACCEPTED, "False", "Unreadable", standing.fault)
    if fault is not None:
        return _condition(standing, ACCEPTED, "False", "Invalid", str(fault))
    found = list(findings.findings(item, servers, now))
    for path, reason in ((_PLACE, "NoServer"), (_EXPIRED, "Expired")):
        for each in found:
            if each.field == path:
                is_there = path == _PLACE and item.server in servers
                named = "NamespaceNotAllowed" if is_there else reason
                return _condition(standing, ACCEPTED, "False", named, _words(each))
    if found:
        told = "; ".join(map(_words, found))
        return _condition(standing, ACCEPTED, "True", "AcceptedWithWarnings", told)
    return _condition(standing, ACCEPTED, "True", "Accepted", "it counts")


def _enforced(standing: Standing, accepted: Condition, reach: Reach) -> Condition:
    of_all = f"{reach.enforcing} of {reach.connected} connected sidecars run it"
    if accepted.status != "True":
        return _condition(standing, ENFORCED, "False", "NotAccepted", "it does not count")
    if not reach.connected:
        return _condition(standing, ENFORCED, "Unknown", "NoSidecar", "no sidecar is connected")
    if reach.enforcing == reach.connected:
        return _condition(standing, ENFORCED, "True", "Acknowledged", "every sidecar runs it")
    told = "; ".join((of_all, *_distinct(reach.refusals)))
    reason = "Refused" if reach.refusals else "Pending"
    return _condition(standing, ENFORCED, "Unknown", reason, told)


def _distinct(refusals: Iterable[str]) -> Iterator[str]:
    return iter(sorted(set(refusals))[:3])


def _words(finding: findings.Finding) -> str:
    return f"{finding.field}: {finding.problem}; {finding.mend}"


def _condition(standing: Standing, name: str, status: str, reason: str, message: str) -> Condition:
    return Condition(name, status, reason, message[:_MOST], standing.generation)
