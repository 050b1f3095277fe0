"""Tool rules as lines of text: `tool:allow`, `tool:deny` or `tool:allow:high`."""

from collections.abc import Iterable

from extauthz.core.errors import Invalid
from extauthz.core.fields import nearest
from extauthz.core.model import DECISIONS, TRUST_LEVELS, ToolRule

_MEND = "write it like refund:allow, refund:deny or refund:allow:high"


def parse_rules(text: str, field: str) -> tuple[ToolRule, ...]:
    """Read one rule a line; blank lines are left out.

    Raises:
        Invalid: naming `field` and the line.
    """
    numbered = [(n, line.strip()) for n, line in enumerate(text.splitlines(), 1)]
    rules = [(n, parse_rule(line, f"{field}: line {n}")) for n, line in numbered if line]
    lines: dict[str, int] = {}
    for n, rule in rules:
        if (first := lines.setdefault(rule.name, n)) != n:
            problem = f"second rule for `{rule.name}`, the first is in line {first}"
            raise Invalid(f"{field}: line {n}", problem, "keep one of them")
    return tuple(rule for _, rule in rules)


def parse_rule(line: str, field: str) -> ToolRule:
    """Read one rule; the tool's own name may hold colons.

    Raises:
        Invalid: naming `field`.
    """
    if len(line.splitlines()) > 1:
        raise Invalid(field, "has several lines", "write one rule in each item")
    tool, *said = line.rsplit(":", 2)
    if len(said) == 2 and said[1] in DECISIONS:
        tool, said = f"{tool}:{said[0]}", said[1:]
    if not said:
        raise Invalid(field, f"`{line[:200]}` has no decision", _MEND)
    decision, trust = said[0], said[1] if len(said) == 2 else ""
    if decision not in DECISIONS:
        raise Invalid(field, f"unknown decision `{decision[:64]}`", _mend(decision, DECISIONS))
    if len(said) == 2 and trust not in TRUST_LEVELS:
        raise Invalid(field, f"unknown trust `{trust[:64]}`", _mend(trust, TRUST_LEVELS))
    if not tool or tool != tool.strip():
        raise Invalid(field, f"`{line[:200]}` names no tool", _MEND)
    return ToolRule(tool, decision, trust)


def write_rule(rule: ToolRule) -> str:
    """The line that reads as this rule."""
    return ":".join(filter(None, (rule.name, rule.decision, rule.required_trust)))


def _mend(given: str, known: Iterable[str]) -> str:
    near = nearest(given, frozenset(known))
    return f"did you mean `{near}`?" if near else _MEND
