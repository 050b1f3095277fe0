"""A second evaluator, as slow and as plain as the decision table reads.

It shares no code with the first: it works on the document itself, walks every grant,
and compares instants as datetimes.
"""

from datetime import datetime
from typing import Any

RANK = {"": 1, "low": 1, "medium": 2, "high": 3}
Document = dict[str, Any]
Item = dict[str, Any]


def when(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def expired(item: Item, now: datetime) -> bool:
    return bool(item.get("expires_at")) and now >= when(item["expires_at"])


def matches(item: Item, who: dict[str, str]) -> bool:
    wanted = {field: item.get(field, "") for field in ("human_id", "agent_id", "team_id")}
    if not any(wanted.values()):
        return False
    return all(who.get(field, "") == value for field, value in wanted.items() if value)


def by_name(items: list[Item]) -> list[Item]:
    return sorted(items, key=lambda item: (item["namespace"], item["name"]))


def decide(
    document: Document, tool: str, who: dict[str, str], now: datetime
) -> tuple[str, str, tuple[str, str] | None]:
    """A tools/call in the document's mode: (effect, reason, what observe mode would have done)."""
    would = enforce(document, tool, who, now)
    if document["policy"].get("mode") != "observe":
        return *would, None
    return *(would if would[0] == "allow" else ("allow", "allowed")), would


def enforce(document: Document, tool: str, who: dict[str, str], now: datetime) -> tuple[str, str]:
    """Rows 4 to 11 as mode allow-list decides them: (effect, reason)."""
    default = document["policy"].get("default_decision", "deny")
    guard = document["policy"].get("side_effect_guard", "whenSet")
    declared = next((t for t in document["tools"] if t["name"] == tool), {})

    # 4
    if not (who.get("human_id") or who.get("agent_id") or who.get("team_id")):
        return "deny", "missing_identity"

    # 5
    named = who.get("session_id", "")
    session = next((s for s in document["sessions"] if s["name"] == named), None)
    if session is not None and not matches(session, who):
        session = None
    if document["session"].get("required"):
        if not named:
            return "deny", "missing_session"
        if session is None:
            return "deny", "session_not_found"

    # 5a
    if session is not None and session.get("revoked"):
        return "deny", "session_revoked"
    if session is not None and expired(session, now):
        return "deny", "session_expired"

    # 6, 6a
    matching = by_name([g for g in document["grants"] if matches(g, who)])
    live = [g for g in matching if not g.get("disabled") and not expired(g, now)]
    if matching and not live:
        return "deny", "grant_disabled" if matching[0].get("disabled") else "grant_expired"
    if not matching:
        return default, "no_matching_grant"

    # 7
    for g in live:
        for rule in g.get("tool_rules", []):
            if rule["name"] == tool and rule.get("decision") == "deny":
                return "deny", "tool_denied"

    # 8
    covering = [
        g
        for g in live
        if not g.get("tool_rules") or any(rule["name"] == tool for rule in g["tool_rules"])
    ]
    if not covering:
        return default, "tool_not_granted"

    # 9, 10, 11: each grant alone
    at_9, at_10 = [], []
    for g in covering:
        effect, allowed = declared.get("side_effect", ""), g.get("allowed_side_effects", [])
        if (allowed or guard == "required") and effect not in allowed:
            at_9.append("side_effect_not_allowed" if effect else "tool_side_effect_unknown")
            continue
        trust = RANK[g.get("max_trust", "")]
        if session is not None:
            trust = min(trust, RANK[session.get("consented_trust", "")])
        needed = RANK[declared.get("required_trust", "")]
        for rule in g.get("tool_rules", []):
            if rule["name"] == tool:
                needed = max(needed, RANK[rule.get("required_trust", "")])
        if trust < needed:
            at_10.append("trust_too_low")
            continue
        return "allow", "allowed"
    return "deny", (at_10 or at_9)[0]
