"""What adopting a server's policy would change: what stands there, and what we make of it. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from backend.ports.adoption import PolicyMap
from backend.rendering import Rendered
from extauthz.core.compile import compile_document, load_document
from extauthz.core.errors import Invalid
from extauthz.core.policy import LEVELS, NEVER, Grant, Policy
from extauthz.core.times import format_instant

SENTINEL: Final = "mcp-sentinel"
RUNTIME: Final = "mcp-runtime"
SETTINGS: Final = "settings"
Parts = dict[str, dict[str, str]]  # of a policy: what each part says, by member


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that a gateway would read differently.

    Args:
        part: such as `grant mcp-servers/ops`.
        member: of it; empty where the part as a whole stands in one of the two alone.
        theirs, ours: as they are told; empty where it says nothing.
    """

    part: str
    member: str
    theirs: str
    ours: str

    def __str__(self) -> str:
        if not self.member:
            where = "stands there, and is not in ours" if self.theirs else "is in ours alone"
            return f"{self.part}: {where}"
        theirs, ours = (f"`{text}`" if text else "nothing" for text in (self.theirs, self.ours))
        return f"{self.part}: {self.member}: {theirs} there, {ours} in ours"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What may be done about a server's policy.

    Args:
        state: `ours`, `theirs` (may be adopted), `absent`, or `kept` (must stay as it is).
        why: it must stay so, with the mend.
        differences: between what stands there and what we would write.
    """

    state: str
    why: str = ""
    differences: tuple[Difference, ...] = ()


def judge(found: PolicyMap | None, ours: Rendered) -> Verdict:
    """Whether the policy that stands there can be taken over."""
    if found is None:
        return Verdict("absent")
    if not found.is_of_server:
        return Verdict("kept", "it is owned by another MCPServer of that name; delete it")
    if found.manager == SENTINEL:
        return Verdict("ours")
    if found.manager != RUNTIME:
        manager = f"`{found.manager}`" if found.manager else "nobody that is named"
        return Verdict("kept", f"it is kept by {manager}, not by {RUNTIME}; delete or rename it")
    if ours.policy is None:
        return Verdict("kept", f"its objects make no policy here: {ours.fault}")
    return Verdict("theirs", differences=tuple(differences(found.text, ours.document)))


def differences(text: str, ours: Mapping[str, Any]) -> Iterator[Difference]:
    """What a gateway would decide by that differs, part by part.

    Args:
        text: the document that stands there.
        ours: one that compiles.
    """
    try:
        theirs = load_document(text.encode())
        before = _parts(theirs)
    except Invalid as error:
        yield Difference("document", "readable", f"no ({error})", "yes")
        return
    after = _parts(ours)
    for part in sorted(before.keys() | after.keys(), key=lambda name: (name != SETTINGS, name)):
        if (part in before) != (part in after):
            yield Difference(part, "", *("yes" if part in each else "" for each in (before, after)))
            continue
        members = before[part].keys() | after[part].keys()
        for member in sorted(members):
            both = before[part].get(member, ""), after[part].get(member, "")
            if both[0] != both[1]:
                yield Difference(part, member, *both)


def _parts(document: Mapping[str, Any]) -> Parts:
    """Raises: Invalid."""
    policy = compile_document(document)
    found = {SETTINGS: _settings(policy)}
    for name, tool in policy.tools.items():
        trust, effect = LEVELS[tool.rank], tool.side_effect
        found[f"tool {name}"] = {"required trust": trust, "side effect": effect}
    for subject, grants in policy.grants.items():
        for grant in grants.grants:
            found[f"grant {grant.ref}"] = _subject(subject) | _grant(grant)
    for session in policy.sessions.values():
        found[f"session {session.ref}"] = _subject(session.subject) | {
            "consented trust": LEVELS[session.rank],
            "revoked": _flag(session.revoked),
            "expires": _end(session.expires_at),
            "policy version": session.policy_version,
        }
    for raw in document.get("sessions") or ():
        # mcp-runtime's gateway sends that token on; nothing of Sentinel does.
        if token := raw.get("upstream_token_ref"):
            found[f"session {policy.sessions[raw['name']].ref}"]["upstream token"] = str(token)
    return found


def _settings(policy: Policy) -> dict[str, str]:
    facts, headers, oauth = policy.facts, policy.headers, policy.oauth
    told = {
        "identity": policy.auth_mode,
        "identity headers": ", ".join(
            (headers.human, headers.agent, headers.team, headers.session)
        ),
        "trusted peers": ", ".join(map(str, policy.trusted_peers)),
        "owner team": facts.team_id,
        "mode": facts.mode,
        "policy version": facts.version,
        "default decision": policy.default.value,
        "unknown methods": policy.unknown_methods.value,
        "side effects must be listed": _flag(policy.guard_required),
        "session required": _flag(policy.session_required),
    }
    if oauth is not None:
        told |= {"issuer": oauth.issuer, "audience": oauth.audience, "token header": oauth.header}
    return told


def _grant(grant: Grant) -> dict[str, str]:
    told = {
        "max trust": LEVELS[grant.rank],
        "side effects": ", ".join(grant.effects),
        "disabled": _flag(grant.disabled),
        "expires": _end(grant.expires_at),
        "policy version": grant.policy_version,
        "covers": "every tool" if grant.rules is None else "tools of its rules",
    }
    for name, rule in (grant.rules or {}).items():
        # Every tool needs low at least, said or not.
        told[f"rule {name}"] = "deny" if rule.deny else f"allow:{LEVELS[max(rule.rank, 1)]}"
    return told


def _subject(subject: tuple[str, str, str]) -> dict[str, str]:
    return dict(zip(("human", "agent", "team"), subject, strict=True))


def _flag(value: bool) -> str:
    return "yes" if value else ""


def _end(at: float) -> str:
    return "" if at == NEVER else format_instant(at)
