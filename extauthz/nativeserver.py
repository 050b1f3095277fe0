"""Check and the access log, served through pygrpc-native.

HTTP/2 and gRPC run in Rust, outside the interpreter's lock. A thread of its own takes calls from
there in batches and answers them: nothing on the way of an answer waits for the event loop.
"""

import asyncio
import logging
import tempfile
import threading
from collections.abc import Callable, Sequence

import grpc
from pygrpc_native import EVENT_CALL, NativeGrpcFront

from extauthz.ports import AnswerChecks

_log = logging.getLogger(__name__)

_BATCH = 64  # calls taken from Rust at once
_IO_THREADS = 1  # Envoy opens a connection for each of its workers, a few at most
_WRITE_SECONDS = 0.1  # for answers on their way to Envoy; closing cuts them, and nobody tells
_UNIX = "unix:"
SUFFIX = ".behind"  # of the socket of the server behind

_Event = tuple[int, int, int, bytes | None, object]


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
        self._stopping = False

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
            front = NativeGrpcFront(address, self._methods, io_threads=_IO_THREADS)
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
        # A daemon: a disk that hangs must not keep the process from ending.
        threading.Thread(target=self._work, args=[front], name="check", daemon=True).start()

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

    def _work(self, front: NativeGrpcFront) -> None:
        """The thread."""
        while (events := front.recv_batch(_BATCH)) is not None:
            with self._answering:
                self._serve(front, events)

    def _serve(self, front: NativeGrpcFront, events: Sequence[_Event]) -> None:
        ids: list[int] = []
        messages: list[bytes] = []
        for kind, call_id, method, message, _ in events:
            if kind != EVENT_CALL or message is None:
                continue  # the caller went away: what was decided stays
            if len(message) > self._max_bytes:
                _fail(front, call_id, grpc.StatusCode.RESOURCE_EXHAUSTED, "message too large")
            elif method:
                self._hand_over(message)
                front.respond(call_id, b"")
            elif self._stopping:
                _fail(front, call_id, grpc.StatusCode.UNAVAILABLE, "the decision point stops")
            else:
                ids.append(call_id)
                messages.append(message)
        if not ids:
            return
        for call_id, answer in zip(ids, self._answers(messages), strict=True):
            if answer is None:
                _fail(front, call_id, grpc.StatusCode.INTERNAL, "the decision point failed")
            else:
                front.respond(call_id, answer)

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
