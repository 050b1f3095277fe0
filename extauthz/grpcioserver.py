"""Check and the access log, served by grpcio: the same as `nativeserver.py`, at more cost."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Any

import grpc

from extauthz.checkthread import CheckThread
from extauthz.ports import AnswerChecks

_log = logging.getLogger(__name__)

_Waiting = tuple[bytes, "asyncio.Future[bytes | None]"]


class GrpcioServer:
    """Serves on one insecure port. Arguments as for `NativeServer`; `server` does all of it."""

    def __init__(
        self,
        check: str,
        log: str,
        *,
        answer: AnswerChecks,
        take: Callable[[bytes], None],
        server: grpc.aio.Server,
    ) -> None:
        self._answer, self._take, self._server = answer, take, server
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = CheckThread(self._work)
        for path, method in ((check, self._check), (log, self._export)):
            _, service, name = path.split("/")
            handlers: dict[str, Any] = {name: grpc.unary_unary_rpc_method_handler(method)}
            server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(service, handlers)]
            )

    def add_insecure_port(self, address: str) -> int:
        """Bind.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        return self._server.add_insecure_port(address)

    async def start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread.start()
        await self._server.start()

    async def ended(self) -> None:
        """Until nothing answers Check any more."""
        await self._thread.wait()

    async def stop(self, grace: float | None) -> None:
        """Take no more calls, and answer those under way within `grace` seconds."""
        await self._server.stop(grace)
        self._queue.put(None)

    async def _check(self, message: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
        assert self._loop
        waiting: asyncio.Future[bytes | None] = self._loop.create_future()
        self._queue.put((message, waiting))
        answer = await waiting
        if answer is None:
            await context.abort(grpc.StatusCode.INTERNAL, "the decision point failed")
        return answer

    async def _export(self, message: bytes, context: object) -> bytes:
        self._take(message)
        return b""

    def _work(self) -> None:
        """The thread: what came during one batch is the next."""
        assert self._loop
        while (first := self._queue.get()) is not None:
            batch = [first]
            while not self._queue.empty() and (more := self._queue.get()) is not None:
                batch.append(more)
            # The flag of a future may be read from any thread: a caller that left is not decided.
            batch = [each for each in batch if not each[1].done()]
            if not batch:
                continue
            messages = [message for message, _ in batch]
            try:
                answers: Sequence[bytes | None] = self._answer(messages)
            except Exception as error:  # Envoy answers 503
                _log.error("check failed", extra={"error": type(error).__name__})
                answers = [None] * len(messages)
            self._loop.call_soon_threadsafe(_tell, batch, answers)


def _tell(batch: Sequence[_Waiting], answers: Sequence[bytes | None]) -> None:
    for (_, waiting), answer in zip(batch, answers, strict=True):
        if not waiting.done():  # the caller went away: what was decided stays
            waiting.set_result(answer)
