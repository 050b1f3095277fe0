"""The grants and sessions of a policy document, compiled into indexes."""

from collections.abc import Mapping

from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid
from extauthz.core.fields import Fields
from extauthz.core.model import DECISIONS, SIDE_EFFECTS, TRUST_LEVELS
from extauthz.core.policy import (
    NEVER,
    RANKS,
    Grant,
    Rule,
    Session,
    SubjectGrants,
    SubjectKey,
    order,
)
from extauthz.core.times import parse_instant

_RULES = {(deny, rank): Rule(deny, rank) for deny in (False, True) for rank in range(4)}
_Shared = dict[tuple[tuple[str, Rule], ...], Mapping[str, Rule]]  # equal rules are kept once


def compile_grants(root: Fields, server_namespace: str) -> dict[SubjectKey, SubjectGrants]:
    """Index the member `grants` by subject.

    Raises:
        Invalid: with the JSON path and the mend.
    """
    by_subject: dict[SubjectKey, list[Grant]] = {}
    seen: set[tuple[str, str]] = set()
    shared: _Shared = {}
    for item in root.objects("grants"):
        grant = _grant(item, server_namespace, shared)
        place = order(grant)
        if place in seen:
            raise Invalid(item.at("name"), f"second grant `{grant.ref}`", "keep one of them")
        seen.add(place)
        by_subject.setdefault(_subject(item), []).append(grant)
    by_subject.pop(("", "", ""), None)  # an empty subject matches nobody
    return {
        subject: SubjectGrants(tuple(sorted(found, key=order)))
        for subject, found in by_subject.items()
    }


def _rules(item: Fields) -> dict[str, Rule]:
    rules: dict[str, Rule] = {}
    for rule in item.objects("tool_rules"):
        name = rule.required_text("name")
        deny = rule.choice("decision", DECISIONS, "allow") == "deny"
        trust = rule.choice("required_trust", TRUST_LEVELS)
        rank = RANKS.get(trust, 0)
        earlier = rules.get(name)  # of two rules for one tool the stricter parts count
        if earlier:
            deny, rank = deny or earlier.deny, max(rank, earlier.rank)
        rules[name] = _RULES[deny, rank]
    return rules


def _grant(item: Fields, server_namespace: str, shared: _Shared) -> Grant:
    expires_at, rules = item.instant("expires_at"), _rules(item)
    return Grant(
        ref=reference(item, server_namespace),
        rank=RANKS[item.choice("max_trust", TRUST_LEVELS, "low")],
        effects=item.texts("allowed_side_effects", SIDE_EFFECTS),
        rules=shared.setdefault(tuple(rules.items()), rules) if rules else None,
        disabled=item.flag("disabled"),
        expires_at=parse_instant(expires_at, "") if expires_at else NEVER,
        policy_version=item.text("policy_version"),
    )


def compile_sessions(root: Fields, server_namespace: str) -> dict[str, Session]:
    """Index the member `sessions` by rendered name.

    Raises:
        Invalid: with the JSON path and the mend.
    """
    sessions: dict[str, Session] = {}
    for item in root.objects("sessions"):
        name, expires_at = item.required_text("name"), item.instant("expires_at")
        if name in sessions:
            raise Invalid(item.at("name"), f"second session `{name}`", "keep one of them")
        sessions[name] = Session(
            ref=reference(item, server_namespace),
            subject=_subject(item),
            rank=RANKS[item.choice("consented_trust", TRUST_LEVELS, "low")],
            revoked=item.flag("revoked"),
            expires_at=parse_instant(expires_at, "") if expires_at else NEVER,
            policy_version=item.text("policy_version"),
        )
    return sessions


def reference(item: Fields, server_namespace: str) -> ObjectRef:
    """Whom a rendered object names itself.

    Objects of another namespace are rendered as `namespace/name`; older documents name none.
    """
    namespace = item.text("namespace", server_namespace)
    return ObjectRef(namespace, item.required_text("name").removeprefix(f"{namespace}/"))


def _subject(item: Fields) -> SubjectKey:
    return item.text("human_id"), item.text("agent_id"), item.text("team_id")
