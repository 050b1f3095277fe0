"""The running policy together with the keys that its tokens are verified by (mode oauth)."""

from dataclasses import replace

from extauthz.core.decide import Snapshot
from extauthz.core.request import Identity
from extauthz.core.tokens import TokenVerifier
from extauthz.jwks import KeyRing
from extauthz.ports import Snapshots


class KeyedPolicies:
    """Gives the running policy the keys that it needs; in other modes than oauth it is idle.

    Args:
        policies: the policy without keys.
        keys: those of its issuer.
    """

    def __init__(self, policies: Snapshots, keys: KeyRing[Identity]) -> None:
        self._policies, self._keys = policies, keys
        self._bare: Snapshot | None = None  # the snapshot that `_keyed` was made of
        self._verifier: TokenVerifier[Identity] | None = None
        self._keyed = policies.current

    @property
    def current(self) -> Snapshot:
        """The policy that decides now, with the keys of its issuer."""
        bare = self._policies.current
        if bare is not self._bare or self._keys.verifier is not self._verifier:
            verifier = self._keys.look()
            self._keyed = replace(bare, tokens=verifier) if verifier else bare
            self._bare, self._verifier = bare, verifier
        return self._keyed
