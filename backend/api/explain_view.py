"""What an explanation says, as the api answers it."""

from typing import Any

import msgspec

from backend.decision_forms import AskedServer, Levels, Ref, WouldBe
from extauthz.core.decision import Decision
from extauthz.core.explain import Outcome, Step, told
from extauthz.core.remedies import Remedy


class Row(msgspec.Struct, frozen=True):
    """One row of the decision table, or what one grant says by itself."""

    row: str
    condition: str
    outcome: Outcome
    detail: str


class Decided(msgspec.Struct, frozen=True, omit_defaults=True):
    """A decision, and the rows up to the one that decided; as `sentinel decide` writes it."""

    effect: str
    reason: str
    trust: Levels
    grant: Ref | None
    session: Ref | None
    explanation: list[Row]
    would: WouldBe | None = None


class AskedCall(msgspec.Struct, frozen=True, omit_defaults=True):
    """The call that is explained."""

    server: AskedServer
    method: str = ""
    tool: str = ""
    human_id: str = ""
    agent_id: str = ""
    team_id: str = ""
    session_id: str = ""


class PolicySaid(msgspec.Struct, frozen=True, omit_defaults=True):
    """The policy that the rows are told by.

    Args:
        match: `exact`: rebuilt, and its revision is the one that decided; `nearest`: rebuilt,
            and not proven to be that one; `unknown`: it cannot be rebuilt; `current`.
        revision: of the policy that decided, or decides.
        rebuilt_revision: of the rebuilt one, where it differs.
        note: why it is no exact match.
    """

    match: str
    revision: str
    version: str = ""
    mode: str = ""
    rebuilt_revision: str = ""
    note: str = ""


class Repeated(msgspec.Struct, frozen=True):
    """What the same call would get now."""

    effect: str
    reason: str
    revision: str


class ObjectPatch(msgspec.Struct, frozen=True):
    """A change of one custom resource.

    Args:
        action: `patch`, a merge patch (RFC 7386) of the object that it names, or `create`.
        summary: what is done, for people.
    """

    action: str
    summary: str
    patch: dict[str, Any]


class SmallestChange(msgspec.Struct, frozen=True):
    """Changes that together let the call pass, found by compiling and evaluating.

    Args:
        opens_to_others: whether an object among them is for more callers than this one.
    """

    opens_to_others: bool
    changes: list[ObjectPatch]


class Explanation(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why a call is, or was, decided so.

    Args:
        time: of the decision.
        failed: the row that denies; null where nothing does.
        now: what the same call would get now, for one of the past.
        smallest_change: what would allow it from now on, for admins; left out where none is
            needed, or none helps (`advice` says why).
        other_events: ids of further calls of the same request, of which this is the newest.
        disagrees: what the rebuilt policy decides, where that is not what was decided.
    """

    time: str
    call: AskedCall
    decision: Decided
    failed: Row | None
    policy: PolicySaid
    smallest_change: SmallestChange | None = None
    alternatives: list[SmallestChange] = []
    advice: str = ""
    now: Repeated | None = None
    request_id: str = ""
    event_id: str = ""
    other_events: list[str] = []
    disagrees: WouldBe | None = None


def decided(decision: Decision, steps: list[Step]) -> Decided:
    """A decision and its rows."""
    return msgspec.convert(told(decision, steps), Decided)


def failing(decision: Decision, view: Decided) -> Row | None:
    """The row that denies, or would in a mode that enforces."""
    effect = decision.would.effect if decision.would else decision.effect
    if effect == "allow":
        return None
    return next((row for row in view.explanation if row.outcome is Outcome.DECIDES), None)


def change_of(remedy: Remedy) -> SmallestChange:
    """A remedy with its patches."""
    return SmallestChange(
        remedy.opens_to_others,
        [
            ObjectPatch(
                "create" if change.before is None else "patch",
                "; ".join(change.summaries),
                change.patch,
            )
            for change in remedy.changes
        ],
    )
