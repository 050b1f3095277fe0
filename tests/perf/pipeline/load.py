"""`python -m tests.perf.pipeline.load`: posts events to ingest; prints what was answered.

It must cost less than ingest does: bodies are made before the first is sent, but for `--fresh`.
"""

import argparse
import asyncio
import itertools
import json
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import uuid_utils
import uvloop

_ID = len(b'{"event_id":"')
_ID_END = _ID + 36
_BUSY_SECONDS = 0.05


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("lines", type=Path, help="envelopes, one a line")
    parser.add_argument("--size", type=int, required=True, help="events in a request")
    parser.add_argument("--connections", type=int, required=True)
    parser.add_argument("--seconds", type=float, default=0.0, help="0: every event once")
    parser.add_argument("--fresh", type=int, default=0, help="so many events, all of other ids")
    arguments = parser.parse_args()
    uvloop.install()
    print(json.dumps(asyncio.run(_run(arguments))))


async def _run(arguments: argparse.Namespace) -> dict[str, float]:
    lines = arguments.lines.read_bytes().splitlines()
    url = urlsplit(arguments.url)
    head = (
        f"POST {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\nx-api-key: {arguments.key}\r\n"
        "Content-Type: application/x-ndjson\r\nContent-Length: "
    ).encode()
    requests = _requests(arguments, head, lines)
    loop = asyncio.get_running_loop()
    begin = loop.time()
    deadline = begin + arguments.seconds if arguments.seconds else float("inf")
    senders = []
    for _ in range(arguments.connections):
        sender = _Sender(requests, deadline)
        await loop.create_connection(partial(_same, sender), url.hostname, url.port)
        senders.append(sender)
    await asyncio.gather(*(sender.ended for sender in senders))
    return {
        "requests": sum(sender.taken for sender in senders),
        "events": sum(sender.events for sender in senders),
        "busy": sum(sender.busy for sender in senders),
        "seconds": loop.time() - begin,
        "cpu_seconds": time.process_time(),
    }


def _same(sender: "_Sender") -> "_Sender":
    return sender


def _requests(
    arguments: argparse.Namespace, head: bytes, lines: list[bytes]
) -> Iterator[tuple[int, bytes]]:
    """(events, request)."""
    size = arguments.size
    if arguments.fresh:
        around = itertools.cycle(lines)
        for first in range(0, arguments.fresh, size):
            count = min(size, arguments.fresh - first)
            yield count, _request(head, [_anew(line) for line in itertools.islice(around, count)])
        return
    ready = [
        (len(part), _request(head, part))
        for part in (lines[first : first + size] for first in range(0, len(lines), size))
    ]
    yield from itertools.cycle(ready) if arguments.seconds else ready


def _request(head: bytes, lines: list[bytes]) -> bytes:
    body = b"\n".join(lines) + b"\n"
    return head + str(len(body)).encode() + b"\r\n\r\n" + body


def _anew(line: bytes) -> bytes:
    """The event under another id."""
    new = str(uuid_utils.uuid7()).encode()
    return line.replace(line[_ID:_ID_END], new, 2)  # decision_id is the same


class _Sender(asyncio.Protocol):
    """One connection: the next request as soon as the last is answered."""

    def __init__(self, requests: Iterator[tuple[int, bytes]], deadline: float) -> None:
        self._requests, self._deadline = requests, deadline
        self._loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._loop.create_future()
        self.taken = self.events = self.busy = 0
        self._count, self._request, self._answer = 0, b"", b""

    def connection_made(self, transport: Any) -> None:  # uvloop's is no asyncio.Transport
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._answer += data
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator:
            return
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        status, self._answer = head[9:12], b""
        if status == b"202":
            self.taken += 1
            self.events += self._count
            self._next()
        elif status in (b"503", b"429"):
            self.busy += 1
            self._loop.call_later(_BUSY_SECONDS, self._transport.write, self._request)
        else:
            self._end(RuntimeError(f"ingest answered {head[:64]!r} {body[:300]!r}"))

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or RuntimeError("ingest closed the connection"))

    def _next(self) -> None:
        following = None if self._loop.time() >= self._deadline else next(self._requests, None)
        if following is None:
            self._end(None)
            return
        self._count, self._request = following
        self._transport.write(self._request)

    def _end(self, error: Exception | None) -> None:
        if self.ended.done():
            return
        if error:
            self.ended.set_exception(error)
        else:
            self.ended.set_result(None)
        self._transport.close()


if __name__ == "__main__":
    main()
