"""A call's event, read back into the decision that it tells of."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from backend.ports.event_store import StoredEvent
from extauthz.core.decision import Decision, Effect, ObjectRef, PolicyFacts, Trust, Would
from extauthz.core.methods import NOTIFICATIONS
from extauthz.core.reasons import Reason
from extauthz.core.request import Call, Identity, Kind
from extauthz.core.table import BESIDE, TABLE

# The call was not read, not identified, or no policy looked at it: rows 1 to 2b, and beside.
UNREAD: Final = frozenset(BESIDE) | frozenset(
    reason for row in TABLE if row.number in {"1", "2", "2a", "2b"} for reason in row.reasons
)


@dataclass(frozen=True, slots=True)
class Recorded:
    """A call that happened.

    Args:
        server: empty names where the event has none.
    """

    event: StoredEvent
    decision: Decision
    server: ObjectRef
    cluster: str

    @property
    def was_evaluated(self) -> bool:
        """Whether grants and sessions, or the kind of method, decided."""
        return self.decision.reason not in UNREAD


def read_recorded(event: StoredEvent) -> Recorded | None:
    """What the event of a call tells; None where it tells no decision of Sentinel's."""
    payload = orjson.loads(event.payload)
    members: dict[str, Any] = payload if isinstance(payload, dict) else {}
    try:
        decision = _decision(members)
    except ValueError:
        return None
    facts = decision.policy
    return Recorded(event, decision, ObjectRef(facts.namespace, facts.server), facts.cluster)


def _decision(members: dict[str, Any]) -> Decision:
    """Raises ValueError for codes that are none of ours."""

    def text(name: str) -> str:
        value = members.get(name)
        return value if isinstance(value, str) else ""

    method = text("rpc_method")
    would = text("would_decision")
    return Decision(
        effect=Effect(text("decision")),
        reason=Reason(text("reason")),
        policy=PolicyFacts(
            server=text("server"),
            namespace=text("namespace"),
            cluster=text("cluster"),
            team_id=text("team_id"),
            mode=text("mode"),
            version=text("policy_version"),
            revision=text("policy_revision"),
        ),
        call=Call(kind=kind_of(method), method=method, tool=text("tool_name")),
        identity=Identity(
            text("human_id"), text("agent_id"), text("subject_team_id"), text("session_id")
        ),
        trust=Trust(
            text("required_trust"),
            text("admin_trust"),
            text("consented_trust"),
            text("effective_trust"),
        ),
        side_effect=text("required_side_effect"),
        risk=text("risk_level"),
        tool_declared=members.get("tool_undeclared") is not True,
        grant=_ref(text("matched_grant_namespace"), text("matched_grant")),
        session=_ref(text("matched_session_namespace"), text("matched_session")),
        policy_version=text("policy_version"),
        would=Would(Effect(would), Reason(text("would_reason"))) if would else None,
        id=text("decision_id"),
    )


def kind_of(method: str) -> Kind:
    """What a message with this method is, where only the method is known."""
    if not method:
        return Kind.NONE
    known = method in NOTIFICATIONS or method.startswith("notifications/")
    return Kind.NOTIFICATION if known else Kind.REQUEST


def _ref(namespace: str, name: str) -> ObjectRef | None:
    return ObjectRef(namespace, name) if name else None
