"""Who may follow which server's policy: a pod, by its service account's token."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cachetools import TTLCache

from backend.ports.control_plane import Caller, ControlPlane
from backend.ports.network import Pod
from extauthz.core.accounts import ANNOTATION, Claim, ServiceAccount
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Forbidden, Unauthenticated

AUDIENCE: Final = "mcp-sentinel-controller"
APP: Final = "app"  # the label that mcp-runtime puts on a server's pods, with its name
_BEARER: Final = "Bearer "


@dataclass(frozen=True, slots=True)
class _Known:
    """Args: pod: the caller's; None where its token is bound to none."""

    caller: Caller
    pod: Pod | None


class Callers:
    """Asks the API server about tokens, and remembers the good ones for a bounded time.

    A pod may follow a server of its own namespace: where the server's annotation
    `sentinel.mcpruntime.org/service-accounts` names accounts, a pod of one of these; else a pod
    whose label `app` is the server's name.

    Args:
        accounts: what that annotation of a server lists.
        remember_seconds: how long a token is believed without asking again.
        monotonic: seconds.
    """

    def __init__(
        self,
        control: ControlPlane,
        accounts: Callable[[ObjectRef], frozenset[str]],
        *,
        remember_seconds: float,
        monotonic: Callable[[], float],
    ) -> None:
        self._control, self._accounts = control, accounts
        self._known: TTLCache[bytes, _Known] = TTLCache(10_000, remember_seconds, monotonic)

    async def check(self, authorization: str, server: ObjectRef) -> Pod | None:
        """Let the caller follow `server`. Returns: its pod, as far as is known.

        Args:
            authorization: the metadata of that name; empty where there is none.

        Raises:
            Unauthenticated: no token, or one that does not count.
            Forbidden: it counts, and not for this server.
            Retryable: the API server cannot be asked.
        """
        known = await self._who(authorization)
        caller = known.caller
        if caller.namespace != server.namespace:
            problem = f"a pod of namespace `{caller.namespace}` may not follow `{server}`"
            raise Forbidden(f"{problem}; run the sidecar in the server's namespace")
        claim = Claim(server, self._accounts(server))
        if not claim.admits(ServiceAccount(caller.namespace, caller.account)):
            problem = f"service account `{caller.account}` may not follow `{server}`"
            raise Forbidden(f"{problem}; name it in the server's annotation {ANNOTATION}")
        labels = known.pod.labels if known.pod else {}
        if not claim.accounts and labels.get(APP) != server.name:
            who = f"pod `{caller.pod}`" if caller.pod else f"service account `{caller.account}`"
            mend = f"label the pod `{APP}: {server.name}`, or name its account on the server"
            raise Forbidden(f"{who} may not follow `{server}`; {mend} ({ANNOTATION})")
        return known.pod

    async def _who(self, authorization: str) -> _Known:
        token = authorization.removeprefix(_BEARER)
        if not token or token == authorization:
            mend = "send `authorization: Bearer …` with a projected token"
            raise Unauthenticated(f"no service account's token came; {mend}")
        name = hashlib.sha256(token.encode()).digest()
        known = self._known.get(name)
        if known is None:
            caller = await self._control.review(token, AUDIENCE)
            if caller is None:
                mend = f"it must be valid, and for the audience {AUDIENCE}"
                raise Unauthenticated(f"the token does not count; {mend}")
            pod = await self._control.pod(caller) if caller.pod else None
            known = self._known[name] = _Known(caller, pod)
        return known
