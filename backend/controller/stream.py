"""The policy stream as sidecars call it: `Follow` of `protos/policy_stream.proto`."""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import grpc

from backend.controller.hub import MOST_ERROR, Follower, Hub, Sent
from backend.controller.messages import messages
from backend.metrics import ControllerMetrics
from backend.ports.network import Pod
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Forbidden, Retryable, Unauthenticated
from extauthz.core.times import parse_duration
from protos.gen import policy_stream_pb2 as wire

CONFIRM_SECONDS: Final = 5.0  # the protocol asks for 10 at most
MOST_WAIT_SECONDS: Final = 60.0  # for a sidecar that takes no message, or gives no answer
MOST_FOLLOWERS: Final = 20_000
_MOST_NAME: Final = 256

_log = logging.getLogger(__name__)
Context = grpc.aio.ServicerContext[Any, Any]


class Gate(Protocol):
    """Lets a caller in. Raises: Unauthenticated, Forbidden, Retryable."""

    async def check(self, authorization: str, server: ObjectRef) -> Pod | None:
        """Returns: the caller's pod, as far as is known."""


class PolicyStream:
    """Serves `Follow`.

    Args:
        fault: why nobody is served now; empty where all are.
        is_sure: whether the documents are those that the API server has now.
        staleness: a server's `max_staleness`, as it is written; empty where it has none.
        name: of this replica, which operators are shown.
    """

    def __init__(
        self,
        hub: Hub,
        gate: Gate,
        *,
        fault: Callable[[], str],
        is_sure: Callable[[], bool],
        staleness: Callable[[ObjectRef], str],
        metrics: ControllerMetrics,
        name: str,
    ) -> None:
        self._hub, self._gate, self._fault, self._staleness = hub, gate, fault, staleness
        self._is_sure, self._metrics, self._name = is_sure, metrics, name
        self._streams: dict[asyncio.Task[Any], ObjectRef] = {}
        self._ends: dict[asyncio.Task[Any], grpc.StatusCode] = {}

    async def Follow(  # noqa: N802 - the protocol's name
        self, requests: AsyncIterator[wire.FollowRequest], context: Context
    ) -> None:
        task = asyncio.current_task()
        assert task
        try:
            server, subscription, pod = await self._let_in(requests, context)
            self._streams[task] = server
            await self._follow(server, subscription, pod, requests, context)
        except asyncio.CancelledError:
            if task not in self._ends:
                raise
            await context.abort(self._ends[task], self._fault() or "there is no such MCPServer")
        finally:
            self._streams.pop(task, None)
            self._ends.pop(task, None)

    def end(self, server: ObjectRef | None = None) -> None:
        """End streams: of one server that is gone, or all, for another replica to serve them."""
        for task, followed in self._streams.items():
            if server in (None, followed) and task not in self._ends:
                code = grpc.StatusCode.UNAVAILABLE if server is None else grpc.StatusCode.NOT_FOUND
                self._ends[task] = code
                task.cancel()

    async def _let_in(
        self, requests: AsyncIterator[wire.FollowRequest], context: Context
    ) -> tuple[ObjectRef, wire.Subscription, Pod | None]:
        if fault := self._fault():
            await context.abort(grpc.StatusCode.UNAVAILABLE, fault)
        if len(self._streams) >= MOST_FOLLOWERS:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many sidecars follow")
        first = await self._first(requests, context)
        server = ObjectRef(first.namespace[:_MOST_NAME], first.name[:_MOST_NAME])
        metadata = dict(context.invocation_metadata() or ())
        try:
            pod = await self._gate.check(str(metadata.get("authorization", "")), server)
        except Unauthenticated as error:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, str(error))
        except Forbidden as error:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, str(error))
        except Retryable as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, str(error))
        await context.send_initial_metadata((("controller", self._name),))
        return server, first, pod

    async def _first(
        self, requests: AsyncIterator[wire.FollowRequest], context: Context
    ) -> wire.Subscription:
        first = wire.FollowRequest()
        with suppress(TimeoutError, StopAsyncIteration):
            async with asyncio.timeout(MOST_WAIT_SECONDS):
                first = await anext(aiter(requests))
        if not first.HasField("subscription"):
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first message subscribes")
        return first.subscription

    async def _follow(
        self,
        server: ObjectRef,
        asked: wire.Subscription,
        pod: Pod | None,
        requests: AsyncIterator[wire.FollowRequest],
        context: Context,
    ) -> None:
        wake = asyncio.Event()
        gateway = _shown(asked.gateway[:_MOST_NAME])
        follower = self._hub.follow(server, gateway, asked.revision, wake.set, pod)
        if follower is None:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"there is no MCPServer `{server}`")
        if not self._may_tell(follower):
            self._hub.leave(follower)
            why = "this replica does not know whether it still leads"
            await context.abort(grpc.StatusCode.UNAVAILABLE, why)
        told = {"server": str(server), "gateway": follower.gateway}
        _log.info("sidecar follows", extra=told | {"policy_revision": follower.holds})
        answers = asyncio.create_task(self._answers(follower, requests))
        sending = asyncio.create_task(self._send_all(follower, wake, context))
        try:
            await asyncio.wait({answers, sending}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the sidecar stands still")
        finally:
            answers.cancel()
            sending.cancel()
            self._hub.leave(follower)
            _log.info("sidecar left", extra=told | {"policy_revision": follower.holds})

    def _may_tell(self, follower: Follower) -> bool:
        """In doubt, nobody is led back to what may be older than what it runs."""
        return self._is_sure() or follower.holds == "" or follower.is_same

    async def _answers(
        self, follower: Follower, requests: AsyncIterator[wire.FollowRequest]
    ) -> None:
        async for request in requests:
            answer = request.acknowledgement
            before = follower.error
            error = _shown(answer.error[:MOST_ERROR])
            self._hub.answered(follower, answer.nonce, answer.revision, error)
            if follower.error and follower.error != before:
                self._metrics.refused.inc()
                _log.warning(
                    "a sidecar refused its policy",
                    extra={"server": str(follower.server), "error": follower.error},
                )

    async def _send_all(self, follower: Follower, wake: asyncio.Event, context: Context) -> None:
        """Raises: TimeoutError: it takes nothing, or answers nothing."""
        confirm = True
        while True:
            wake.clear()
            sent = follower.due(confirm=confirm and self._is_sure())
            if sent is not None:
                await self._send(sent, context)
            is_answering = follower.is_answering
            pause = MOST_WAIT_SECONDS if is_answering else self._pause(follower.server)
            try:
                async with asyncio.timeout(pause):
                    await wake.wait()
                confirm = False
            except TimeoutError:
                if is_answering:
                    raise
                confirm = True

    async def _send(self, sent: Sent, context: Context) -> None:
        kind = "full" if sent.update.is_full else "increment"
        is_confirmation = sent.update.base == sent.update.revision
        self._metrics.updates.labels("confirmation" if is_confirmation else kind).inc()
        for message in messages(sent):
            async with asyncio.timeout(MOST_WAIT_SECONDS):
                await context.write(message)

    def _pause(self, server: ObjectRef) -> float:
        """Three confirmations within the time after which a policy is stale."""
        staleness = self._staleness(server)
        most = parse_duration(staleness, "maxStaleness") / 3 if staleness else CONFIRM_SECONDS
        return max(0.1, min(CONFIRM_SECONDS, most))


def _shown(text: str) -> str:
    """What a sidecar says ends in logs, and in statuses that terminals show."""
    return "".join(each if each.isprintable() else "\ufffd" for each in text)
