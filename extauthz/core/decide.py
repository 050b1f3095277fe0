"""Parse, identify, evaluate: one request to one decision."""

from dataclasses import dataclass

from msgspec.structs import replace

from extauthz.core.decision import Decision, Effect, PolicyFacts
from extauthz.core.evaluate import evaluate
from extauthz.core.headers import read_headers
from extauthz.core.identity import DEFAULT_WATCHED, authenticate, identify
from extauthz.core.jsonrpc import Refusal, read_call
from extauthz.core.policy import Policy
from extauthz.core.reasons import Reason
from extauthz.core.request import NO_CALL, NOBODY, Call, Identity, Request
from extauthz.core.strictjson import Doubtful
from extauthz.core.tokens import TokenRefusal, TokenVerifier
from extauthz.core.urls import is_metadata, metadata_url

# A larger body takes time to read, which a stranger is not given (docs/decisions.md).
READ_FOR_ANYBODY_BYTES = 64 * 1024
_NEEDS_TOKEN = frozenset({Reason.MISSING_BEARER_TOKEN, Reason.INVALID_TOKEN})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What decides at this moment; swapped as a whole.

    Args:
        policy: None where there is no valid document.
        facts: the policy's, or the server's name alone where there is no policy.
        confirmed_at: when the policy was last known to be current, seconds since the epoch.
        fault: why there is no policy, or why a newer one was refused; empty when all is well.
        tokens: verifies bearer tokens (mode oauth); None where there are no keys, as offline.
    """

    policy: Policy | None
    facts: PolicyFacts
    confirmed_at: float
    fault: str = ""
    tokens: TokenVerifier[Identity] | None = None

    @classmethod
    def of(cls, policy: Policy, confirmed_at: float | None = None) -> "Snapshot":
        """A snapshot that runs `policy`, current as of `confirmed_at` (its making by default)."""
        as_of = policy.generated_at if confirmed_at is None else confirmed_at
        return cls(policy, policy.facts, as_of)

    @classmethod
    def unavailable(cls, facts: PolicyFacts, fault: str) -> "Snapshot":
        """No valid policy: everything is denied."""
        return cls(None, facts, 0.0, fault)

    def decide(self, request: Request, now: float) -> Decision:
        """Decide one HTTP request at `now` (seconds since the epoch); never raises for input."""
        watched = self.policy.watched if self.policy else DEFAULT_WATCHED
        try:
            headers = read_headers(request.headers, watched)
        except Doubtful as refused:
            return self._refuse(Refusal(refused.reason, refused.detail))
        if len(request.body) > READ_FOR_ANYBODY_BYTES:
            before = self._decide_read(request, NO_CALL, headers, now)
            if not before.allowed:
                return before
        call = read_call(request, headers)
        if isinstance(call, Refusal):
            return self._refuse(call)
        return self._decide_read(request, call, headers, now)

    def _decide_read(
        self, request: Request, call: Call, headers: dict[str, str], now: float
    ) -> Decision:
        """Rows 2 on; what is no message at all is decided by rows 2 to 2b alone."""
        identity, unverified = self._identify(request, headers, now)
        decision = self.decide_call(call, identity, request.peer, now, unverified)
        if unverified is not None and decision.reason in _NEEDS_TOKEN:
            return replace(decision, resource_metadata=metadata_url(request))
        return decision

    def decide_call(
        self,
        call: Call,
        identity: Identity,
        peer: str | None,
        now: float,
        unverified: TokenRefusal | None = None,
    ) -> Decision:
        """Decide what has already been read and identified (row 2 on).

        Args:
            peer: None: not checked.
            unverified: why the token names nobody; None where it was verified, or none is needed.
        """
        if self.policy is None:
            return Decision(
                Effect.DENY, Reason.POLICY_UNAVAILABLE, self.facts, call=call, identity=identity
            )
        return evaluate(
            self.policy,
            call,
            identity,
            peer=peer,
            now=now,
            as_of=self.confirmed_at,
            unverified=unverified,
        )

    def _identify(
        self, request: Request, headers: dict[str, str], now: float
    ) -> tuple[Identity, TokenRefusal | None]:
        policy = self.policy
        if policy is None:
            return NOBODY, None
        if policy.oauth is None:
            return identify(policy, headers), None
        if is_metadata(request):
            return NOBODY, None
        found = authenticate(policy, policy.oauth, self.tokens, headers, now)
        return (NOBODY, found) if isinstance(found, TokenRefusal) else (found, None)

    def _refuse(self, refusal: Refusal) -> Decision:
        return Decision(
            Effect.DENY,
            refusal.reason,
            self.facts,
            call=refusal.call,
            policy_version=self.facts.version,
            detail=refusal.detail,
        )


def failed(facts: PolicyFacts) -> Decision:
    """The decision when the gate itself broke: deny, with a reason of its own."""
    return Decision(Effect.DENY, Reason.INTERNAL_ERROR, facts)
