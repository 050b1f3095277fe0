"""Makes explanations: of calls that happened, and of hypothetical ones."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

import msgspec

from backend.api import explain_policy
from backend.api.explain_policy import Known, Match
from backend.api.explain_recorded import Recorded
from backend.api.explain_view import (
    AskedCall,
    Explanation,
    PolicySaid,
    Repeated,
    change_of,
    decided,
    failing,
)
from backend.decision_forms import AskedServer, WouldBe
from backend.ports.access_store import AccessStore
from backend.ports.event_store import EventStore
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision, ObjectRef, PolicyFacts
from extauthz.core.errors import NotFound
from extauthz.core.explain import explain
from extauthz.core.reasons import Reason
from extauthz.core.remedies import remedies
from extauthz.core.request import Call, Identity
from extauthz.core.times import format_instant

_NO_HELP: Final = "no change of a grant or session allows this call"
_ADVICE: Final = {
    Reason.MISSING_IDENTITY: "the caller must say who it is",
    Reason.MISSING_SESSION: "the caller must name a session",
    Reason.SESSION_NOT_FOUND: "the caller must name a session of its own",
    Reason.SESSION_EXPIRED: "the session's lifetime is over; start a new one and name that",
    Reason.TOOL_SIDE_EFFECT_UNKNOWN: "declare the tool's sideEffect on the MCPServer",
    Reason.UNKNOWN_METHOD: "`policy.unknownMethods: allow` on the MCPServer lets it pass, for all",
}


@dataclass(frozen=True, slots=True)
class Asked:
    """A hypothetical call.

    Args:
        at: when it is made; aware.
    """

    server: ObjectRef
    cluster: str
    call: Call
    identity: Identity
    at: datetime


class Explanations:
    """Explains calls by the history in the store, and by the objects as they are now.

    Args:
        store, access: both may raise Retryable.
    """

    def __init__(self, store: EventStore, access: AccessStore) -> None:
        self._store, self._access = store, access

    def recorded(self, recorded: Recorded, now: datetime, *, for_admin: bool) -> Explanation:
        """Why a call was decided so, by the policy of its time."""
        at, decision = recorded.event.event_time, recorded.decision
        known = self._then(recorded)
        view = decided(decision, explain(known.policy, decision, at.timestamp()))
        told = Explanation(
            time=format_instant(at.timestamp()),
            call=_asked(recorded.server, recorded.cluster, decision.call, decision.identity),
            decision=view,
            failed=failing(decision, view),
            policy=_said(known, decision.policy),
            request_id=recorded.event.request_id,
            event_id=recorded.event.event_id,
            disagrees=_disagreement(known, decision, at),
        )
        if not recorded.was_evaluated:
            return told
        asked = Asked(recorded.server, recorded.cluster, decision.call, decision.identity, at)
        return self._repeated(told, asked, now, for_admin=for_admin)

    def hypothetical(self, asked: Asked, now: datetime, *, for_admin: bool) -> Explanation:
        """Why a call would be decided so: by the objects of now, of the past if it is past.

        Raises:
            NotFound: no such server, now or then.
        """
        is_past = asked.at < now
        known = self._past(asked) if is_past else self._present(asked)
        decision = _decide(known, asked)
        view = decided(decision, explain(known.policy, decision, asked.at.timestamp()))
        told = Explanation(
            time=format_instant(asked.at.timestamp()),
            call=_asked(asked.server, asked.cluster, asked.call, asked.identity),
            decision=view,
            failed=failing(decision, view),
            policy=_said(known, decision.policy),
        )
        if is_past:
            return self._repeated(told, asked, now, for_admin=for_admin)
        return _helped(told, known, asked, decision) if for_admin else told

    def servers(self) -> Sequence[ObjectRef]:
        """The servers that there are now."""
        return [ObjectRef(each.namespace, each.name) for each in self._access.servers()]

    def _repeated(
        self, told: Explanation, asked: Asked, now: datetime, *, for_admin: bool
    ) -> Explanation:
        """With what the same call would get now; a change can only help from now on."""
        again = replace(asked, at=now)
        try:
            known = self._present(again)
        except NotFound:
            return told
        decision = _decide(known, again)
        repeated = Repeated(decision.effect, decision.reason, decision.policy.revision)
        told = msgspec.structs.replace(told, now=repeated)
        return _helped(told, known, again, decision) if for_admin else told

    def _present(self, asked: Asked) -> Known:
        return explain_policy.current(self._access, asked.server, asked.cluster, asked.at)

    def _past(self, asked: Asked) -> Known:
        known = explain_policy.rebuilt(self._store, asked.server, asked.cluster, "", asked.at)
        if known.policy is None:
            raise NotFound(f"the policy of that time is not known: {known.note}")
        return known

    def _then(self, recorded: Recorded) -> Known:
        facts = recorded.decision.policy
        if not facts.revision:
            return Known(Match.UNKNOWN, note="no valid policy decided, or the event names none")
        return explain_policy.rebuilt(
            self._store,
            recorded.server,
            recorded.cluster,
            facts.revision,
            recorded.event.event_time,
        )


def _decide(known: Known, asked: Asked) -> Decision:
    if known.policy is None:
        server = asked.server
        facts = PolicyFacts(server=server.name, namespace=server.namespace, cluster=asked.cluster)
        snapshot = Snapshot.unavailable(facts, known.note)
    else:
        snapshot = Snapshot.of(known.policy, asked.at.timestamp())
    return snapshot.decide_call(asked.call, asked.identity, None, asked.at.timestamp())


def _disagreement(known: Known, decision: Decision, at: datetime) -> WouldBe | None:
    """What the rebuilt policy decides, where that is not what was decided."""
    if known.policy is None:
        return None
    asked = Asked(ObjectRef("", ""), "", decision.call, decision.identity, at)
    again, was = _decide(known, asked), decision.would or decision
    would = again.would or again
    if (would.effect, would.reason) == (was.effect, was.reason):
        return None
    return WouldBe(would.effect, would.reason)


def _helped(told: Explanation, known: Known, asked: Asked, decision: Decision) -> Explanation:
    """With the smallest changes that would allow it; they were tried out."""
    wanted = decision.would or decision
    if wanted.effect == "allow" or known.access is None:
        return told
    found = remedies(known.access, asked.call, asked.identity, asked.at.timestamp())
    if not found:
        why = _ADVICE.get(wanted.reason, "")
        advice = f"{_NO_HELP}; {why}" if why else _NO_HELP
        return msgspec.structs.replace(told, advice=advice)
    first, *others = map(change_of, found)
    return msgspec.structs.replace(told, smallest_change=first, alternatives=others)


def _asked(server: ObjectRef, cluster: str, call: Call, identity: Identity) -> AskedCall:
    return AskedCall(
        AskedServer(server.namespace, server.name, cluster),
        call.method,
        call.tool,
        identity.human_id,
        identity.agent_id,
        identity.team_id,
        identity.session_id,
    )


def _said(known: Known, facts: PolicyFacts) -> PolicySaid:
    own = known.policy.facts.revision if known.policy else ""
    return PolicySaid(
        match=known.match,
        revision=facts.revision,
        version=facts.version,
        mode=facts.mode,
        rebuilt_revision=own if own != facts.revision else "",
        note=known.note,
    )
