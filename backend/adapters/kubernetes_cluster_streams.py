"""Logs of pods and connections into them: what the API server passes on to a kubelet."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import aiohttp

from backend.adapters.kubernetes_calls import ApiCalls
from backend.ports.workloads import LogLine, LogRange
from extauthz.core.errors import Retryable

PROTOCOL: Final = "v4.channel.k8s.io"
_DATA, _ERROR = 0, 1
_PORT_BYTES: Final = 2  # the first message of each channel is the port's number


async def log_lines(
    calls: ApiCalls, pod_path: str, container: str, which: LogRange
) -> AsyncIterator[LogLine]:
    """Lines of any length."""
    query = {"container": container} | _query(which)
    rest = b""
    async for chunk in calls.chunks(f"{pod_path}/log", query):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            yield _line(line)
    if rest:
        yield _line(rest)


def _line(raw: bytes) -> LogLine:
    at, _, text = raw.decode("utf-8", "replace").partition(" ")
    return LogLine(at, text)


def _query(which: LogRange) -> dict[str, str]:
    asked: dict[str, Any] = {
        "timestamps": "true",
        "tailLines": which.tail,
        "sinceSeconds": which.since_seconds,
        "previous": "true" if which.previous else None,
        "follow": "true" if which.follow else None,
    }
    return {name: str(value) for name, value in asked.items() if value is not None}


class PodTunnel:
    """A connection to one port of one pod: two channels in a WebSocket, data and errors."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbered: set[int] = set()

    async def send(self, data: bytes) -> None:
        try:
            await self._socket.send_bytes(bytes([_DATA]) + data)
        except (aiohttp.ClientError, OSError) as error:
            raise Retryable("the connection into the pod is broken") from error

    async def receive(self) -> bytes:
        while True:
            message = await self._socket.receive()
            if message.type is not aiohttp.WSMsgType.BINARY:
                if message.type is aiohttp.WSMsgType.ERROR:
                    raise Retryable("the connection into the pod is broken")
                return b""
            channel, data = message.data[0], message.data[1:]
            if channel not in self._numbered:
                self._numbered.add(channel)
                data = data[_PORT_BYTES:]
            if channel == _ERROR and data:
                raise Retryable(f"the pod refuses: {data.decode('utf-8', 'replace').strip()}")
            if channel == _DATA and data:
                return bytes(data)

    async def close(self) -> None:
        try:
            async with asyncio.timeout(1.0):
                await self._socket.close()
        except TimeoutError:
            pass


async def open_tunnel(calls: ApiCalls, pod_path: str, port: int) -> PodTunnel:
    """Raises: NotFound, Retryable."""
    query = {"ports": str(port)}
    return PodTunnel(await calls.connect(f"{pod_path}/portforward", query, PROTOCOL))
