"""Check and the access log, served through pygrpc-native.

HTTP/2 and gRPC run in Rust, outside the interpreter's lock. A thread of its own takes calls from
there in batches and answers them: nothing on the way of an answer waits for the event loop.
"""

import asyncio
import logging
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
from pygrpc_native import EVENT_CALL, EVENT_CANCEL, NativeGrpcFront

from extauthz.checkthread import CheckThread
from extauthz.ports import AnswerChecks

if TYPE_CHECKING:
    from pygrpc_native._native import DetailedEvent

_log = logging.getLogger(__name__)

_BATCH = 64  # calls taken from Rust at once
_LARGE_BYTES = 256 * 1024  # a message of which takes milliseconds: it waits for smaller ones
_IO_THREADS = 1  # Envoy opens a connection for each of its workers, a few at most
_WRITE_SECONDS = 0.1  # for answers on their way to Envoy; closing cuts them, and nobody tells
_NEVER = float("inf")
_UNIX = "unix:"
SUFFIX = ".behind"  # of the socket of the server behind


@dataclass(frozen=True, slots=True)
class _Check:
    """A call that waits; nobody does for its answer after `deadline`, monotonic seconds."""

    id: int
    message: bytes
    deadline: float


class NativeServer:
    """Serves on one insecure port; there is no TLS between Envoy and the decision point.

    Args:
        check, log: paths of the two methods, `/package.Service/Method`, both unary.
        answer: answers calls of `check`, in order; None where one could not be answered. Runs in
            a thread of its own, for one batch at a time; callers that go away undo nothing.
        take: takes messages of `log`, on the event loop.
        behind: a server for all other methods.
        max_bytes: largest message taken.
    """

    def __init__(
        self,
        check: str,
        log: str,
        *,
        answer: AnswerChecks,
        take: Callable[[bytes], None],
        behind: grpc.aio.Server,
        max_bytes: int,
    ) -> None:
        self._methods = [(check, False), (log, False)]
        self._answer, self._take, self._max_bytes = answer, take, max_bytes
        self._behind = behind
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._front: NativeGrpcFront | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._answering = threading.Lock()
        self._large: deque[_Check] = deque()
        self._stopping = False
        self._thread = CheckThread(self._work)

    def add_insecure_port(self, address: str) -> int:
        """Bind.

        Raises:
            RuntimeError: the address cannot be bound.
        """
        if address.startswith(_UNIX):
            behind = f"{address}{SUFFIX}"
        else:
            self._folder = tempfile.TemporaryDirectory(prefix="sentinel-")
            behind = f"{_UNIX}{self._folder.name}/check.sock{SUFFIX}"
        try:
            front = NativeGrpcFront(
                address, self._methods, io_threads=_IO_THREADS, call_details=True
            )
        except OSError as error:
            raise RuntimeError(f"{address} cannot be bound") from error
        self._behind.add_insecure_port(behind)
        front.set_fallback(behind.removeprefix(_UNIX))
        self._front = front
        return front.bound_port

    async def start(self) -> None:
        front = self._front
        assert front, "add a port before"
        await self._behind.start()
        self._loop = asyncio.get_running_loop()
        front.start()
        self._thread.start()

    async def ended(self) -> None:
        """Until nothing answers Check any more."""
        await self._thread.wait()

    async def stop(self, grace: float | None) -> None:
        """Take no more calls, and answer those under way within `grace` seconds."""
        self._stopping = True
        await self._behind.stop(grace)
        if self._front:
            await asyncio.to_thread(self._answering.acquire, timeout=grace or 0)
            await asyncio.sleep(_WRITE_SECONDS)
            await asyncio.to_thread(self._front.close)
        if self._folder:
            self._folder.cleanup()

    def _work(self) -> None:
        """The thread."""
        front = self._front
        assert front
        while (events := self._receive(front)) is not None:
            with self._answering:
                self._serve(front, self._take_calls(front, events))
                if self._large:  # one at a time: what came meanwhile goes first
                    self._serve(front, [self._large.popleft()])

    def _receive(self, front: NativeGrpcFront) -> "Sequence[DetailedEvent] | None":
        return front.recv_batch_details(_BATCH, 0 if self._large else None)

    def _take_calls(
        self, front: NativeGrpcFront, events: "Sequence[DetailedEvent]"
    ) -> Sequence[_Check]:
        """The small ones among the Checks that somebody still waits for."""
        now = time.monotonic()
        small: list[_Check] = []
        gone: set[int] = set()
        for kind, call_id, method, message, _, details in events:
            if kind == EVENT_CANCEL:
                gone.add(call_id)
            if kind != EVENT_CALL or message is None:
                continue
            if len(message) > self._max_bytes:
                _fail(front, call_id, grpc.StatusCode.RESOURCE_EXHAUSTED, "message too large")
            elif method:
                self._hand_over(message)
                front.respond(call_id, b"")
            elif self._stopping:
                _fail(front, call_id, grpc.StatusCode.UNAVAILABLE, "the decision point stops")
            else:
                remaining = details[2] if details else None
                deadline = _NEVER if remaining is None else now + remaining
                waiting = self._large if len(message) > _LARGE_BYTES else small
                waiting.append(_Check(call_id, message, deadline))
        if gone:
            self._large = deque(check for check in self._large if check.id not in gone)
            small = [check for check in small if check.id not in gone]
        return small

    def _serve(self, front: NativeGrpcFront, waiting: Sequence[_Check]) -> None:
        """Answer; what nobody waits for any longer is neither read nor decided."""
        now = time.monotonic()
        checks = [check for check in waiting if check.deadline > now]
        if not checks:
            return
        answers = self._answers([check.message for check in checks])
        for check, answer in zip(checks, answers, strict=True):
            if answer is None:
                _fail(front, check.id, grpc.StatusCode.INTERNAL, "the decision point failed")
            else:
                front.respond(check.id, answer)

    def _answers(self, messages: Sequence[bytes]) -> Sequence[bytes | None]:
        try:
            return self._answer(messages)
        except Exception as error:  # Envoy answers 503
            _log.error("check failed", extra={"error": type(error).__name__})
            return [None] * len(messages)

    def _hand_over(self, message: bytes) -> None:
        assert self._loop
        self._loop.call_soon_threadsafe(self._take, message)


def _fail(front: NativeGrpcFront, call_id: int, code: grpc.StatusCode, message: str) -> None:
    front.fail(call_id, code.value[0], message)
