"""The policy that decides now, and what is wrong with the one that was to follow it."""

import logging
from dataclasses import replace
from enum import StrEnum

from extauthz.core.decide import Snapshot
from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.identity import believes_anybody
from extauthz.core.manifests import Fault
from extauthz.core.policy import Policy

_log = logging.getLogger(__name__)


_LEAST_POLL_SECONDS = 0.1  # for `0s`


class Reload(StrEnum):
    """What became of a change in the source; the `result` of policy_reloads_total."""

    SUCCESS = "success"  # a new policy runs
    FAILURE = "failure"  # the change was refused; the last good policy goes on
    UNCHANGED = "unchanged"  # the change does not touch this server's policy


class Policies:
    """Holds the running snapshot. One source writes; Check reads `current`, one attribute.

    Args:
        facts: the server's name, for denials while there is no policy.
    """

    def __init__(self, facts: PolicyFacts) -> None:
        self._facts = facts
        self.current = Snapshot.unavailable(facts, "no policy yet")
        self.faults: tuple[Fault, ...] = ()
        self.reloads = dict.fromkeys(Reload, 0)
        self.changed_at = 0.0
        self._believed_anybody = False  # as of the policy before

    @property
    def is_ready(self) -> bool:
        """Whether a valid policy runs."""
        return self.current.policy is not None

    def poll_seconds(self, most: float) -> float:
        """Often enough that a policy which may not grow old is confirmed before it has."""
        policy = self.current.policy
        return min(most, max(policy.max_staleness / 3, _LEAST_POLL_SECONDS)) if policy else most

    def run(self, policy: Policy, *, confirmed_at: float, now: float) -> None:
        """Let `policy` decide from here on; one with the running revision only confirms it."""
        if self.current.policy and self.current.facts == policy.facts:
            self.reloads[Reload.UNCHANGED] += 1
            self.confirm(confirmed_at)
            return
        if believes_anybody(policy) and not self._believed_anybody:
            _log.warning(
                "every peer may say who calls; set auth.trustedPeers, or let only a proxy reach it"
            )
        self._believed_anybody = believes_anybody(policy)
        self.current = Snapshot.of(policy, confirmed_at)
        self.changed_at = now
        self.reloads[Reload.SUCCESS] += 1
        facts = policy.facts
        _log.info(
            "policy runs",
            extra={
                "server": f"{facts.namespace}/{facts.server}",
                "mode": facts.mode,
                "policy_revision": facts.revision,
            },
        )

    def confirm(self, confirmed_at: float) -> None:
        """The running policy is still the current one."""
        if self.current.policy and self.current.confirmed_at != confirmed_at:
            self.current = replace(self.current, confirmed_at=confirmed_at)

    def report(self, faults: tuple[Fault, ...]) -> None:
        """Keep what is wrong with the source now; nothing at all once it is mended."""
        if faults == self.faults:
            return
        for fault in faults:
            if fault not in self.faults:
                _log.error("policy source at fault", extra={"error": str(fault)})
        if not faults:
            _log.info("policy source mended")
        else:
            self.reloads[Reload.FAILURE] += 1
        self.faults = faults
        why = str(faults[0]) if faults else ""
        if self.current.policy is None:
            self.current = Snapshot.unavailable(self._facts, why or "no policy yet")
        else:
            self.current = replace(self.current, fault=why)


def mismatch(facts: PolicyFacts, expected: PolicyFacts, mend: str) -> Invalid | None:
    """What is wrong with a valid policy that is another server's; empty names match any."""
    for field, is_for, want in (
        ("$.server.name", facts.server, expected.server),
        ("$.server.namespace", facts.namespace, expected.namespace),
    ):
        if want and is_for and is_for != want:
            return Invalid(field, f"`{is_for}` is not `{want}`, which is governed here", mend)
    return None
