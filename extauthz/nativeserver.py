"""A gRPC server whose busiest method is answered through pygrpc-native.

HTTP/2 and gRPC run in Rust, outside the interpreter's lock; calls come in batches to the event
loop. All other methods are grpc.aio's, on a socket behind it.
"""

import asyncio
import logging
import tempfile
import threading
from collections.abc import Callable, Coroutine, Generator, Sequence
from types import coroutine
from typing import Any, NoReturn

import grpc
from pygrpc_native import EVENT_CALL, NativeGrpcFront

_log = logging.getLogger(__name__)

_BATCH = 64  # calls taken from Rust at once
_IO_THREADS = 1  # Envoy opens a connection for each of its workers, a few at most
_WRITE_SECONDS = 0.1  # for answers on their way to Envoy; closing cuts them, and nobody tells
_UNIX = "unix:"
SUFFIX = ".log"  # of the socket behind: what comes over it is Envoy's log, a stream

Method = Callable[[Any, Any], Coroutine[Any, Any, Any]]


class NativeServer(grpc.aio.Server):
    """Serves on one insecure port.

    Args:
        path: the method to answer natively, `/package.Service/Method`: unary, a coroutine that
            asks nothing of its context and outlives a caller that goes away.
        max_bytes: largest message taken by it.
        options: of the grpc.aio server for the other methods.
    """

    def __init__(self, path: str, max_bytes: int, options: Sequence[tuple[str, Any]]) -> None:
        self._path, self._max_bytes = path, max_bytes
        self._behind = grpc.aio.server(options=options)
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._method: Method | None = None
        self._read: Callable[[bytes], Any] = bytes
        self._write: Callable[[Any], bytes] = bytes
        self._front: NativeGrpcFront | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._taken = threading.Lock()
        self._answers: list[tuple[int, bytes]] = []
        self._waiting: set[asyncio.Task[None]] = set()
        self._stopping = False

    def add_generic_rpc_handlers(self, generic_rpc_handlers: Any) -> None:
        self._behind.add_generic_rpc_handlers(generic_rpc_handlers)

    def add_registered_method_handlers(self, service_name: str, method_handlers: Any) -> None:
        self._behind.add_registered_method_handlers(service_name, method_handlers)
        for name, handler in method_handlers.items():
            if f"/{service_name}/{name}" == self._path:
                self._method = handler.unary_unary
                self._read = handler.request_deserializer
                self._write = handler.response_serializer

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
            front = NativeGrpcFront(address, [(self._path, False)], io_threads=_IO_THREADS)
        except OSError as error:
            raise RuntimeError(f"{address} cannot be bound") from error
        self._behind.add_insecure_port(behind)
        front.set_fallback(behind.removeprefix(_UNIX))
        self._front = front
        return front.bound_port

    def add_secure_port(self, address: str, server_credentials: Any) -> NoReturn:
        raise NotImplementedError("TLS is not spoken between Envoy and the decision point")

    async def start(self) -> None:
        assert self._front, "add a port before"
        assert self._method, f"add the service of {self._path} before"
        await self._behind.start()
        self._loop = asyncio.get_running_loop()
        self._front.start()
        arguments = (self._front, self._loop)
        threading.Thread(target=self._hand_over, args=arguments, name="check", daemon=True).start()

    async def stop(self, grace: float | None) -> None:
        """Take no more calls, and answer those under way within `grace` seconds."""
        self._stopping = True
        await self._behind.stop(grace)
        if self._waiting and grace:
            await asyncio.wait(self._waiting, timeout=grace)
        if self._front:
            await asyncio.sleep(_WRITE_SECONDS)
            await asyncio.to_thread(self._front.close)
        if self._folder:
            self._folder.cleanup()

    async def wait_for_termination(self, timeout: float | None = None) -> bool:  # noqa: ASYNC109  # its signature
        return await self._behind.wait_for_termination(timeout)

    def _hand_over(self, front: NativeGrpcFront, loop: asyncio.AbstractEventLoop) -> None:
        self._taken.acquire()
        while (events := front.recv_batch(_BATCH)) is not None:
            try:
                loop.call_soon_threadsafe(self._take, events)
            except RuntimeError:  # the loop is closed
                return
            # What comes meanwhile is the next batch; fetched now, it would wait for the lock.
            self._taken.acquire()

    def _take(self, events: list[tuple[int, int, int, bytes | None, Any]]) -> None:
        for kind, call_id, _, payload, _ in events:
            if kind != EVENT_CALL or payload is None:
                continue  # the caller went away: what was decided stays
            if self._stopping:
                self._fail(call_id, grpc.StatusCode.UNAVAILABLE, "the decision point stops")
            elif len(payload) > self._max_bytes:
                self._fail(call_id, grpc.StatusCode.RESOURCE_EXHAUSTED, "message too large")
            else:
                self._call(call_id, payload)
        self._flush()
        self._taken.release()

    def _call(self, call_id: int, payload: bytes) -> None:
        """Run the method at once; only one that has to wait becomes a task."""
        running = self._answer(call_id, payload)
        try:
            awaited = running.send(None)
        except StopIteration:
            return
        assert self._loop
        task = self._loop.create_task(_rest(running, awaited))
        self._waiting.add(task)
        task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[None]) -> None:
        self._waiting.discard(task)
        self._flush()

    def _flush(self) -> None:
        """Answer together what was decided together: each answer wakes the thread that writes."""
        assert self._front
        for call_id, answer in self._answers:
            self._front.respond(call_id, answer)
        self._answers.clear()

    async def _answer(self, call_id: int, payload: bytes) -> None:
        assert self._method
        assert self._front
        try:
            answer = self._write(await self._method(self._read(payload), None))
        except Exception as error:  # Envoy answers 503
            _log.error("check failed: %s", type(error).__name__)
            self._fail(call_id, grpc.StatusCode.INTERNAL, "the decision point failed")
        else:
            self._answers.append((call_id, answer))

    def _fail(self, call_id: int, code: grpc.StatusCode, message: str) -> None:
        assert self._front
        self._front.fail(call_id, code.value[0], message)


@coroutine
def _rest(running: Coroutine[Any, Any, None], awaited: Any) -> Generator[Any, Any, None]:
    """What is left of a coroutine that waits for `awaited`, for a task to go on with."""
    yield awaited
    yield from running
