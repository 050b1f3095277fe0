"""Whether a change of one grant or session can only take rights away. Pure.

What such a change does to a call depends on the other objects too, which may change at any
moment. So it is asked of the object alone: for each call it stands somewhere in the order of
`Standing`, and whatever the others say, who stands lower allows no call that was denied.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from extauthz.core.compile import compile_document
from extauthz.core.decision import Effect, ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.evaluate import weigh_grant
from extauthz.core.model import (
    API_VERSION,
    SIDE_EFFECTS,
    Binding,
    MCPAccessGrant,
    MCPAgentSession,
    MCPServer,
)
from extauthz.core.policy import LEVELS, NEVER, UNDECLARED, Grant, Policy, Session, Tool
from extauthz.core.reasons import Reason
from extauthz.core.render import render
from extauthz.core.resources import parse_object
from extauthz.core.times import format_instant


class Standing(IntEnum):
    """What a grant does to one call, whatever the others say: less comes first (rows 6 to 11).

    With the default decision `deny`, the four in the middle are one.
    """

    DENIES = 0  # by a rule; no other grant helps
    FALLS_SHORT = 1  # covers the tool and does not allow; another grant may
    OUT_OF_FORCE = 2  # disabled or expired: where nothing else matches, denied whatever the default
    ABSENT = 3
    SILENT = 4  # in force without covering the tool: the default decides, out of force or not
    ALLOWS = 5


_OUTSIDE: Final = (Standing.DENIES, Standing.ALLOWS)
_TOOLS: Final = [Tool(rank, effect, "") for rank in LEVELS for effect in ("", *SIDE_EFFECTS)]
_CONSENTS: Final = (None, *(
    Session(ObjectRef("", ""), ("", "", ""), rank, revoked=False, expires_at=NEVER,
            policy_version="")
    for rank in LEVELS
))  # fmt: skip
_NO_CONSENT: Final = 0
_NO_LIMIT: Final = max(LEVELS)


def only_tightens(
    before: Binding | None,
    after: Binding | None,
    servers: Mapping[ObjectRef, MCPServer],
    now: float,
) -> bool:
    """Whether, from now on, no call is allowed because of this change.

    Judged by the servers as they are, but for what their tools need in order to be allowed, and
    how callers say who they are; of one that is not there, by the defaults.

    Args:
        before, after: the same object; None where there is none.
        now: seconds since the epoch.

    Raises:
        Invalid: it does more than tighten, and with `after` its server has no policy; or
            `after` itself is what no policy can hold.
    """
    if before and after and (before.server, before.subject) != (after.server, after.subject):
        return only_tightens(None, after, servers, now) and only_tightens(
            before, None, servers, now
        )
    item = after or before
    if item is None:
        return True
    whole = servers.get(item.server) or _unknown(item.server)
    server = _with_plain_headers(whole)
    new = _policy(server, after, now)
    try:
        old = _policy(server, before, now)
    except Invalid:
        return False  # nobody knows what it did
    instants = [now, *(end for policy in (old, new) for end in _ends(policy) if now < end < NEVER)]
    fits = _grant_fits if isinstance(item, MCPAccessGrant) else _session_fits
    if all(fits(old, new, instant) for instant in instants):
        return True
    _policy(whole, after, now)
    return False


def _unknown(ref: ObjectRef) -> MCPServer:
    head = {"apiVersion": API_VERSION, "kind": "MCPServer"}
    found = parse_object(head | {"metadata": {"name": ref.name, "namespace": ref.namespace}})
    assert isinstance(found, MCPServer)  # of that kind
    return found


def _with_plain_headers(server: MCPServer) -> MCPServer:
    """A fault in how callers are told apart must not keep a right from being taken back."""
    plain = _unknown(ObjectRef(server.namespace, server.name))
    session = replace(server.session, header_name=plain.session.header_name)
    return replace(server, auth=plain.auth, session=session)


def _policy(server: MCPServer, item: Binding | None, now: float) -> Policy:
    """With this object alone; without it where it does not belong to the server."""
    grants = [item] if isinstance(item, MCPAccessGrant) else []
    sessions = [item] if isinstance(item, MCPAgentSession) else []
    return compile_document(render(server, grants, sessions, generated_at=format_instant(now)))


def _ends(policy: Policy) -> Iterator[float]:
    yield from (grant.expires_at for found in policy.grants.values() for grant in found.grants)
    yield from (session.expires_at for session in policy.sessions.values())


@dataclass(frozen=True, slots=True)
class _Call:
    """What of a call a grant looks at."""

    tool: str
    needs: Tool
    consent: Session | None
    now: float


def _grant_fits(old: Policy, new: Policy, now: float) -> bool:
    was, is_now = _grant_of(old), _grant_of(new)
    named = {name for grant in (was, is_now) if grant for name in grant.rules or ()} | {""}

    def rises(tool: str, needs: Tool, *, is_alike: bool) -> bool:
        """Whether for some consent it does more than it did; `is_alike`: between the ends."""
        calls = [_Call(tool, needs, consent, now) for consent in _CONSENTS]
        return any(
            _standing(new, is_now, call, is_alike) > _standing(old, was, call, is_alike)
            for call in calls
        )

    # Whatever tools need: others may be declared tomorrow.
    if any(rises(name, needs, is_alike=True) for name in named for needs in _TOOLS):
        return False
    if old.default is Effect.DENY:
        return True
    declared = dict.fromkeys(named, UNDECLARED) | dict(old.tools)
    return not any(rises(name, needs, is_alike=False) for name, needs in declared.items())


def _grant_of(policy: Policy) -> Grant | None:
    return next((grant for found in policy.grants.values() for grant in found.grants), None)


def _standing(policy: Policy, grant: Grant | None, call: _Call, is_alike: bool) -> Standing:
    found = _exact_standing(policy, grant, call)
    return Standing.ABSENT if is_alike and found not in _OUTSIDE else found


def _exact_standing(policy: Policy, grant: Grant | None, call: _Call) -> Standing:
    if grant is None:
        return Standing.ABSENT
    if not grant.is_live(call.now):
        return Standing.OUT_OF_FORCE
    rule = grant.rule_for(call.tool)
    if rule is None:
        return Standing.SILENT
    if rule.deny:
        return Standing.DENIES
    says = weigh_grant(policy, call.needs, grant, rule, call.consent)
    return Standing.ALLOWS if says is Reason.ALLOWED else Standing.FALLS_SHORT


def _session_fits(old: Policy, new: Policy, now: float) -> bool:
    return _consent(new, now) <= _consent(old, now)


def _consent(policy: Policy, now: float) -> int:
    """The trust that a call has which names the session; without a session it has no limit."""
    session = next(iter(policy.sessions.values()), None)
    if session is None:
        return _NO_CONSENT if policy.session_required else _NO_LIMIT
    is_over = session.revoked or now >= session.expires_at
    return _NO_CONSENT if is_over else session.rank
