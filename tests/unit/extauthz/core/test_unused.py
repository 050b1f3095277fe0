"""Grants and rules that no call used."""

from datetime import UTC, datetime
from typing import Any

from objects import grant

from extauthz.core.decision import ObjectRef
from extauthz.core.model import MCPAccessGrant
from extauthz.core.resources import parse_object
from extauthz.core.unused import Use, unused, uses_of

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC).timestamp()


def found(grants: list[Any], *rows: tuple[str, str, Use]) -> list[tuple[str, str, str, str, int]]:
    parsed = [each for one in grants if isinstance(each := parse_object(one), MCPAccessGrant)]
    uses = uses_of((ObjectRef("ns", name), tool, use) for name, tool, use in rows)
    return [
        (u.grant.name, u.rule.name if u.rule else "", u.state, u.force, u.use.denied)
        for u in unused(parsed, uses, NOW)
    ]


RULES = [{"name": "read"}, {"name": "write"}, {"name": "wipe", "decision": "deny"}]


def test_a_grant_that_decided_nothing_is_one_line() -> None:
    """Its rules are not told one by one."""
    assert found([grant(toolRules=RULES)]) == [("g", "", "unused", "live", 0)]


def test_a_used_grant_tells_its_unused_rules() -> None:
    """An allow rule is used by a call that it let pass, a deny rule by one that it denied."""
    rows = [("g", "read", Use(allowed=1)), ("g", "wipe", Use(denied=2))]
    assert found([grant(toolRules=RULES)], *rows) == [("g", "write", "unused", "live", 0)]


def test_a_rule_that_never_let_a_call_pass_says_so() -> None:
    """Its calls were denied, for want of trust perhaps; a deny rule with allowed calls is new."""
    rows = [("g", "read", Use(denied=3)), ("g", "wipe", Use(allowed=1))]
    assert found([grant(toolRules=RULES)], *rows) == [
        ("g", "read", "never_allowed", "live", 3),
        ("g", "write", "unused", "live", 0),
        ("g", "wipe", "unused", "live", 0),
    ]


def test_a_grant_without_rules_is_used_by_any_tool() -> None:
    """One allowed call of whatever tool is use; denied ones alone are not."""
    assert not found([grant()], ("g", "x", Use(allowed=1)), ("g", "y", Use(denied=1)))
    assert found([grant()], ("g", "x", Use(denied=1))) == [("g", "", "never_allowed", "live", 1)]


def test_what_is_not_in_force_is_marked() -> None:
    """A disabled or expired grant is told with that: it could not be used."""
    grants = [
        grant("off", disabled=True),
        grant("over", expiresAt="2026-06-01T12:00:00Z"),
        grant("on", expiresAt="2026-06-01T12:00:01Z"),
    ]
    assert [(name, force) for name, _, _, force, _ in found(grants)] == [
        ("off", "disabled"),
        ("over", "expired"),
        ("on", "live"),
    ]


def test_rows_of_one_grant_and_tool_are_one_use() -> None:
    """Counts are added, the latest time counts."""
    rows = [(ObjectRef("ns", "g"), "t", Use(1, 2, 3.0)), (ObjectRef("ns", "g"), "t", Use(1, 0, 2))]
    assert uses_of(rows) == {ObjectRef("ns", "g"): {"t": Use(2, 2, 3.0)}}
