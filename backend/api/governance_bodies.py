"""Bodies of requests that change grants and sessions, and the custom resources they make.

What is declared here is their form; `extauthz.core.resources` alone says what is valid.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import UNSET, UnsetType

from backend.api.refusals import bad_body
from extauthz.core.errors import Invalid
from extauthz.core.model import (
    API_VERSION,
    DECISIONS,
    DEFAULT_NAMESPACE,
    SIDE_EFFECTS,
    TRUST_LEVELS,
    MCPAccessGrant,
    MCPAgentSession,
)
from extauthz.core.resources import parse_object
from extauthz.core.rulelines import parse_rule, parse_rules
from extauthz.core.writing import to_object

DEFAULT_VERSION: Final = "v1"

T = TypeVar("T", MCPAccessGrant, MCPAgentSession)


def _one_of(choices: tuple[str, ...]) -> Any:
    """For the description alone: what is wrong is said by who reads the object."""
    return msgspec.Meta(extra_json_schema={"enum": [*choices, "", None]})


Text = str | UnsetType | None
Flag = bool | UnsetType | None
Trust = Annotated[str | None, _one_of(TRUST_LEVELS)] | UnsetType
Said = Annotated[str | None, _one_of(DECISIONS)] | UnsetType
SideEffect = Annotated[str, msgspec.Meta(extra_json_schema={"enum": list(SIDE_EFFECTS)})]
_SUBJECT_NAMES: Final = {"human_id": "humanID", "agent_id": "agentID", "team_id": "teamID"}


class ServerRef(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The MCP server; its namespace is the object's own where it names none."""

    name: str
    namespace: Text = UNSET


class SubjectSent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename=_SUBJECT_NAMES):
    """Whom it is for: at least one is needed; what is left out may be anybody's."""

    human_id: Text = UNSET
    agent_id: Text = UNSET
    team_id: Text = UNSET


class RuleSent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel"):
    """One rule; without a decision it allows."""

    name: str
    decision: Said = UNSET
    required_trust: Trust = UNSET


Rules = list[RuleSent | str] | str | UnsetType | None


class GrantPatch(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """What of a grant becomes another; null takes a member away, lists are replaced whole.

    Args:
        tool_rules: objects or lines, such as `refund:allow:high`; or one text of such lines.
    """

    server_ref: ServerRef | UnsetType = UNSET
    subject: SubjectSent | UnsetType = UNSET
    max_trust: Trust = UNSET
    tool_rules: Rules = UNSET
    allowed_side_effects: list[SideEffect] | UnsetType | None = UNSET
    policy_version: Text = UNSET
    disabled: Flag = UNSET
    expires_at: Text = UNSET


class GrantSent(GrantPatch, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"):
    """A whole grant: of one that is there, what is left out is taken away, but for `disabled`.

    Args:
        age: as it was shown; it does not count.
    """

    name: str
    namespace: Text = UNSET
    server_ref: ServerRef
    subject: SubjectSent
    age: Text = UNSET


class SessionPatch(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """What of a session becomes another; null takes a member away."""

    server_ref: ServerRef | UnsetType = UNSET
    subject: SubjectSent | UnsetType = UNSET
    consented_trust: Trust = UNSET
    expires_at: Text = UNSET
    revoked: Flag = UNSET
    policy_version: Text = UNSET


class SessionSent(
    SessionPatch, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="camel"
):
    """A whole session: of one that is there, what is left out is taken away, but for `revoked`.

    Args:
        age: as it was shown; it does not count.
    """

    name: str
    namespace: Text = UNSET
    server_ref: ServerRef
    subject: SubjectSent
    age: Text = UNSET


_BESIDE: Final = frozenset({"name", "namespace", "age"})


def whole(
    kind: type[T], sent: GrantSent | SessionSent, flag: str, before: T | None, namespace: str
) -> T:
    """The object that a body describes.

    Args:
        flag: member that keeps its value where the body leaves it out.
        before: what is there.

    Raises:
        Refused: naming the member of the body.
    """
    given: dict[str, Any] = msgspec.to_builtins(sent)
    spec = {"policyVersion": DEFAULT_VERSION} | _without(given, _BESIDE)
    if given.get(flag) is None:
        spec[flag] = before is not None and getattr(before, flag)
    return _read(kind, namespace, sent.name, spec)


def changed(kind: type[T], patch: GrantPatch | SessionPatch, before: T) -> T:
    """The object with a patch applied (RFC 7386).

    Raises:
        Refused: naming the member of the body.
    """
    spec = _merged(to_object(before)["spec"], msgspec.to_builtins(patch))
    return _read(kind, before.namespace, before.name, spec)


def namespace_of(sent: GrantSent | SessionSent) -> str:
    """Where a sent object belongs."""
    return sent.namespace or DEFAULT_NAMESPACE


def in_body(path: str) -> str:
    """The path of a member of the object, as bodies have it."""
    return path.removeprefix("spec.").removeprefix("metadata.")


def _read(kind: type[T], namespace: str, name: str, spec: dict[str, Any]) -> T:
    try:
        if "toolRules" in spec:
            spec["toolRules"] = _rules(spec["toolRules"])
        found = parse_object(
            {
                "apiVersion": API_VERSION,
                "kind": kind.__name__,
                "metadata": {"name": name, "namespace": namespace},
                "spec": spec,
            }
        )
    except Invalid as error:
        raise bad_body(in_body(error.field), error.problem, error.mend) from None
    assert isinstance(found, kind)  # as it says
    return found


def _rules(sent: Any) -> Any:
    """Rules as objects, whatever they were sent as."""
    if isinstance(sent, str):
        read = parse_rules(sent, "toolRules")
        return [_rule_object(rule.name, rule.decision, rule.required_trust) for rule in read]
    return [_rule(item, f"toolRules[{i}]") for i, item in enumerate(sent or ())]


def _rule(item: Any, where: str) -> Any:
    if not isinstance(item, str):
        return item
    rule = parse_rule(item.strip(), where)
    return _rule_object(rule.name, rule.decision, rule.required_trust)


def _rule_object(name: str, decision: str, trust: str) -> dict[str, str]:
    return {"name": name, "decision": decision, "requiredTrust": trust}


def _without(members: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if name not in names}


def _merged(into: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(into)
    for name, value in patch.items():
        if value is None:
            found.pop(name, None)
        elif isinstance(value, dict):
            found[name] = _merged(found.get(name) or {}, value)
        else:
            found[name] = value
    return found
