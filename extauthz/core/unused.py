"""Grants and rules that no call used. Pure."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from extauthz.core.decision import ObjectRef
from extauthz.core.model import MCPAccessGrant, ToolRule
from extauthz.core.times import parse_instant


class State(StrEnum):
    """What is known of a grant's or rule's use."""

    UNUSED = "unused"  # it decided no call
    NEVER_ALLOWED = "never_allowed"  # it should allow, and every call that it decided was denied


class Force(StrEnum):
    """Whether a grant counts now."""

    LIVE = "live"
    DISABLED = "disabled"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Use:
    """Calls that one grant decided.

    Args:
        last: time of the latest, seconds since the epoch; 0 where there is none.
    """

    allowed: int = 0
    denied: int = 0
    last: float = 0.0

    @property
    def calls(self) -> int:
        return self.allowed + self.denied

    def __add__(self, other: "Use") -> "Use":
        return Use(
            self.allowed + other.allowed, self.denied + other.denied, max(self.last, other.last)
        )


Uses = Mapping[ObjectRef, Mapping[str, Use]]  # of each grant, by tool


@dataclass(frozen=True, slots=True)
class Unused:
    """A grant, or one of its rules, that did nothing for anybody.

    Args:
        rule: None for the grant as a whole.
        use: what it did all the same.
    """

    grant: MCPAccessGrant
    rule: ToolRule | None
    state: State
    force: Force
    use: Use


def unused(grants: Iterable[MCPAccessGrant], uses: Uses, now: float) -> Iterator[Unused]:
    """What no call used, grant by grant: as a whole, or else rule by rule.

    Args:
        uses: of the time that is asked about.
        now: seconds since the epoch.
    """
    for grant in grants:
        by_tool = uses.get(ObjectRef(grant.namespace, grant.name), {})
        force = _force(grant, now)
        whole = sum(by_tool.values(), Use())
        rules = grant.tool_rules
        if not whole.calls or (not rules and not whole.allowed):
            yield Unused(grant, None, _state(whole), force, whole)
            continue
        for rule in rules:
            use = by_tool.get(rule.name, Use())
            if not (use.denied if rule.decision == "deny" else use.allowed):
                yield Unused(grant, rule, _state(use), force, use)


def uses_of(rows: Iterable[tuple[ObjectRef, str, Use]]) -> Uses:
    """Rows of grant, tool and use, summed up."""
    found: dict[ObjectRef, dict[str, Use]] = defaultdict(dict)
    for grant, tool, use in rows:
        found[grant][tool] = found[grant].get(tool, Use()) + use
    return found


def _state(use: Use) -> State:
    return State.NEVER_ALLOWED if use.denied else State.UNUSED


def _force(grant: MCPAccessGrant, now: float) -> Force:
    if grant.disabled:
        return Force.DISABLED
    is_over = grant.expires_at and parse_instant(grant.expires_at, "") <= now
    return Force.EXPIRED if is_over else Force.LIVE
