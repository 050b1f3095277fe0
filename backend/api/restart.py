"""`/runtime/actions/restart`: starts a component again, or all of them."""

import logging
import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http import HTTPStatus
from typing import Final, Literal

import msgspec
from flask import Response

from backend.api.answers import json_response
from backend.api.refusals import Refused
from backend.api.routes import OPERATE_EVERYWHERE, Answer, Call, Group, Route
from backend.ports.cluster import (
    DISPLAY,
    RESTART_ORDER,
    Cluster,
    ComponentState,
    Status,
    require_restartable,
)
from extauthz.core.governance import Restart

_NOT_RUNNING: Final = (Status.NOT_DEPLOYED, Status.UNKNOWN)
Record = Callable[[Sequence[Restart]], None]  # durably; raises SentinelError

_log = logging.getLogger(__name__)


class RestartRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Either one component, by its key, or all of Sentinel's own that run and can be reached."""

    component: str = ""
    all: bool = False


class Restarted(msgspec.Struct, frozen=True, omit_defaults=True):
    """It has begun: `/runtime/components` tells when it serves again."""

    success: Literal[True]
    component: str = ""
    restarted: str = ""


class Cooldown:
    """Lets each thing happen once in a while. Called from any thread.

    Args:
        seconds: between two times of one thing.
        monotonic: seconds of a monotonic clock.
    """

    def __init__(self, seconds: float, monotonic: Callable[[], float]) -> None:
        self._seconds, self._monotonic = seconds, monotonic
        self._until: dict[str, float] = {}
        self._lock = threading.Lock()

    @contextmanager
    def over(self, keys: Sequence[str]) -> Iterator[None]:
        """They happen inside; where that fails, they may happen again at once.

        Raises:
            Refused: one of them happened a moment ago.
        """
        with self._lock:
            now = self._monotonic()
            before = {key: self._until.get(key, -math.inf) for key in keys}
            last = max(before, key=before.__getitem__, default="")
            if last and before[last] > now:
                raise _too_soon(last, math.ceil(before[last] - now))
            self._until |= dict.fromkeys(keys, now + self._seconds)
        try:
            yield
        except BaseException:
            with self._lock:
                self._until |= before
            raise


def restart_group(cluster: Cluster, record: Record, cooldown: Cooldown) -> Group:
    """The scope `operate`, for all namespaces.

    Args:
        record: tells the audit trail, before anything is restarted.
    """

    def restarted(call: Call[RestartRequest]) -> Response:
        states, actor = cluster.components(), call.caller.name
        keys = _chosen(call.body, states)
        for key in keys:
            require_restartable(key, states)
        with cooldown.over(keys):
            record([Restart(key, actor, all=call.body.all) for key in keys])
            cluster.restart(keys)
        _log.warning("restarting components", extra={"units": keys, "principal": actor})
        if call.body.all:
            return json_response(Restarted(True, restarted="all"))
        return json_response(Restarted(True, component=keys[0]))

    route = Route(
        method="POST",
        path="/runtime/actions/restart",
        serve=restarted,
        summary="Start a component again, or all; each once in RESTART_COOLDOWN_SECONDS.",
        answer=Answer(Restarted),
        needs=OPERATE_EVERYWHERE,
        body=RestartRequest,
        problems=(HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT),
    )
    return Group("restart", [route])


def _chosen(asked: RestartRequest, states: Sequence[ComponentState]) -> Sequence[str]:
    """The components that are meant. Raises: Refused."""
    key = asked.component.strip()
    if asked.all and key:
        raise _bad("component_required", "component required: one, or all", "leave one out")
    if asked.all:
        running = {e.key for e in states if e.status not in _NOT_RUNNING}
        return [key for key in DISPLAY if key in running & set(RESTART_ORDER)]
    if not key:
        raise _bad("component_required", "component required", 'name it, or send {"all": true}')
    if key not in DISPLAY:
        known = ", ".join(DISPLAY)
        raise _bad("unknown_component", f"unknown component `{key[:64]}`", f"known: {known}")
    return [key]


def _bad(code: str, problem: str, mend: str) -> Refused:
    return Refused(HTTPStatus.BAD_REQUEST, code, "", problem, mend)


def _too_soon(key: str, seconds: int) -> Refused:
    problem = f"`{key}` was restarted a moment ago"
    mend = f"try again in {seconds} s"
    status = HTTPStatus.TOO_MANY_REQUESTS
    return Refused(status, "restart_too_soon", "", problem, mend, retry_after=seconds)
