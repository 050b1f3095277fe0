"""Service accounts of a cluster: sidecars send events with their own projected tokens.

A token counts by the keys that the API server publishes, which are fetched beside the requests,
and only with our audience: a pod's other tokens get nobody in. It may send events of the
MCPServers that its account speaks for (`extauthz.core.accounts`), and do nothing else. The
token of an account that is gone counts until it expires, an hour as kubelet makes them.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from backend.auth.api_keys import NOWHERE, SAY_NOTHING_MORE
from backend.auth.principal import Origins, Principal, Scope
from backend.ports.service_accounts import ServiceAccounts
from extauthz.core.accounts import ServiceAccount, Speakers
from extauthz.core.claims import BadToken
from extauthz.core.errors import Retryable, SentinelError, Unauthenticated
from extauthz.core.reasons import Reason
from extauthz.core.tokens import KeySet
from extauthz.jwks import KeyOptions, KeyRing

LOOK_SECONDS: Final = 30.0  # between two looks at the servers' annotations
RETRY_SECONDS: Final = 2.0  # while they were never read
_PREFIX: Final = ["system", "serviceaccount"]

_log = logging.getLogger(__name__)


class AccountRules:
    """Whose tokens count. Attributes: issuer: as the keys' publisher says; known with them."""

    jwks_url = ""

    def __init__(self, audience: str) -> None:
        self.issuer, self.audience = "", audience

    def read(self, claims: Mapping[str, Any]) -> ServiceAccount:
        """The account that a verified token is of. Raises: BadToken."""
        subject = claims.get("sub")
        parts = subject.split(":") if isinstance(subject, str) else []
        if len(parts) != 4 or parts[:2] != _PREFIX or not all(parts):
            raise BadToken("the token is of no service account (sub)")
        return ServiceAccount(parts[2], parts[3])


class AccountTokens:
    """Verifier of the tokens of a cluster's service accounts.

    Args:
        source: asked in `ring.run` and `follow` alone.
        audience: what tokens must be for.
        clock: seconds since the epoch.
        options: when keys are fetched.

    Attributes:
        ring: the keys.
    """

    def __init__(
        self,
        source: ServiceAccounts,
        audience: str,
        clock: Callable[[], float],
        options: KeyOptions = KeyOptions(),  # noqa: B008
    ) -> None:
        self._source, self._clock = source, clock
        self._rules = AccountRules(audience)
        self.ring: KeyRing[ServiceAccount] = KeyRing(
            lambda: self._rules, options, clock, self._fetch
        )
        self._lock = threading.Lock()  # an api beside ingest asks from several threads
        self._speakers: Speakers | None = None
        self._fault = ""

    @property
    def is_ready(self) -> bool:
        """Whether keys and servers are known."""
        return self.ring.is_ready and self._speakers is not None

    def verify(self, credentials: Sequence[str], source: str = "") -> Principal:
        why, away = "", False
        for credential in credentials:
            if credential.count(".") != 2 or not credential.isascii():
                continue  # an API key
            with self._lock:
                verifier = self.ring.look()
                found = verifier.verify(credential, self._clock()) if verifier else None
            if isinstance(found, ServiceAccount) and self._speakers is not None:
                return _principal(found, self._speakers)
            if found is None or isinstance(found, ServiceAccount):
                away = True
                continue
            why, away = found.detail, away or found.reason is Reason.OAUTH_PROVIDER_UNAVAILABLE
        if away:
            raise Retryable("the cluster's keys and servers are not known yet; try again later")
        raise Unauthenticated(f"{why}; send a token of now" if why else SAY_NOTHING_MORE)

    async def follow(self) -> None:
        """Know which accounts the servers name, until cancelled; what fails leaves them so."""
        while True:
            try:
                self._speakers = Speakers(await asyncio.to_thread(self._source.claims))
                self._fault = ""
            except SentinelError as error:
                if str(error) != self._fault:
                    _log.warning("accounts of servers not read", extra={"error": str(error)})
                self._fault = str(error)
            await asyncio.sleep(LOOK_SECONDS if self._speakers else RETRY_SECONDS)

    async def _fetch(self) -> KeySet:
        keys = KeySet(await asyncio.to_thread(self._source.keys))
        self._rules.issuer = await asyncio.to_thread(self._source.issuer)
        return keys


def _principal(account: ServiceAccount, speakers: Speakers) -> Principal:
    closed = frozenset((each.namespace, each.name) for each in speakers.closed_to(account))
    origins = Origins(frozenset({account.namespace}), others=closed)
    return Principal(account.user, frozenset({Scope.INGEST}), NOWHERE, origins)
