"""Decided calls whose end Envoy has not told."""

from collections import OrderedDict
from collections.abc import Sequence

from extauthz.core.decision import Decision
from extauthz.core.events import Decided, Outcome
from extauthz.ports import Audit
from extauthz.undecided.lines import UndecidedRequest


class OpenCalls:
    """An audit that remembers decided calls until Envoy has told of their end.

    Envoy gives up on a Check after its timeout, and when the client leaves: the decision may
    have been taken all the same. Such a line is the outcome of that call, not another call.

    Args:
        audit: where decisions and outcomes go.
        most: calls remembered.
    """

    def __init__(self, audit: Audit, most: int) -> None:
        self._audit, self._most = audit, most
        self._decisions: OrderedDict[str, str] = OrderedDict()  # by request

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        """Pass on, and remember."""
        decisions = self._audit.record(decided)
        known = self._decisions
        for (asked, _), decision in zip(decided, decisions, strict=True):
            if asked.request_id:
                known[asked.request_id] = decision.id
        while len(known) > self._most:
            known.popitem(last=False)
        return decisions

    def outcome(self, decision_id: str, outcome: Outcome) -> Decided | None:
        """Pass on, and forget."""
        ended = self._audit.outcome(decision_id, outcome)
        if ended is not None:
            self._decisions.pop(ended[0].request_id, None)
        return ended

    def settle(self, request: UndecidedRequest) -> bool:
        """Take the line as the outcome of a decided call; tell whether it was one."""
        decision_id = self._decisions.get(request.asked.request_id)
        if decision_id is None:
            return False
        self.outcome(decision_id, request.outcome)
        return True
