"""HTTP/1.1 by hand: what is sent and what comes back, byte for byte."""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from tests.tools.waiting import SECONDS


@dataclass(frozen=True)
class RawResponse:
    """A response as it came.

    Attributes:
        head: status line and headers, with their case and order.
        body: what Content-Length announced.
    """

    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    @property
    def lines(self) -> list[str]:
        return self.head.decode("latin-1").split("\r\n")

    def values(self, name: str) -> list[str]:
        """All values of a header, its name compared without case."""
        pairs = (line.partition(": ") for line in self.lines[1:])
        return [value for key, _, value in pairs if key.lower() == name.lower()]

    def json(self) -> Any:
        return json.loads(self.body)


def post(path: str = "/mcp", headers: str = "", body: bytes = b"{}") -> bytes:
    """A POST request; `headers` are whole lines, each with its CRLF."""
    length = f"Content-Length: {len(body)}\r\n"
    return (
        f"POST {path} HTTP/1.1\r\nHost: server.test\r\n{headers}{length}\r\n".encode("latin-1")
        + body
    )


def get(path: str = "/mcp", headers: str = "") -> bytes:
    """A GET request."""
    return f"GET {path} HTTP/1.1\r\nHost: server.test\r\n{headers}\r\n".encode("latin-1")


@contextmanager
def connection(port: int) -> Iterator[socket.socket]:
    """A TCP connection to loopback."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as open_socket:
        yield open_socket


def exchange(port: int, request: bytes) -> RawResponse:
    """Send bytes and read one response whose length is announced."""
    with connection(port) as open_socket:
        # Refused half-way, the answer is there all the same.
        with suppress(BrokenPipeError, ConnectionResetError):
            open_socket.sendall(request)
        return read_response(open_socket)


def read_response(open_socket: socket.socket) -> RawResponse:
    """Read one response whose length is announced."""
    data = read_until(open_socket, b"\r\n\r\n")
    head, _, body = data.partition(b"\r\n\r\n")
    (length,) = RawResponse(head, b"").values("content-length") or ["0"]
    while len(body) < int(length):
        body += _more(open_socket)
    return RawResponse(head, body)


def read_until(open_socket: socket.socket, mark: bytes) -> bytes:
    """Read until the bytes read hold `mark`."""
    data = b""
    while mark not in data:
        data += _more(open_socket)
    return data


def _more(open_socket: socket.socket) -> bytes:
    data = open_socket.recv(65536)
    if not data:
        raise AssertionError("the connection was closed without a whole answer")
    return data
