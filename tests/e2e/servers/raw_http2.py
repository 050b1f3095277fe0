"""HTTP/2 by hand: any header block, valid or not, and what comes back."""

import socket
from collections.abc import Iterable

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, DataReceived, ResponseReceived, StreamEnded, StreamReset

from tests.tools.waiting import SECONDS

RESET = (0, b"")


def exchange(
    port: int,
    headers: Iterable[tuple[str, str]],
    body: bytes,
    trailers: Iterable[tuple[str, str]] = (),
) -> tuple[int, bytes]:
    """Send one request on a connection of its own, unchecked.

    Returns:
        Status and body; `RESET` where the stream or the connection was ended instead.
    """
    config = H2Configuration(
        client_side=True,
        header_encoding=None,
        validate_outbound_headers=False,
        normalize_outbound_headers=False,
    )
    client = H2Connection(config)
    client.initiate_connection()
    client.send_headers(1, _raw(headers))
    tail = _raw(trailers)
    client.send_data(1, body, end_stream=not tail)
    if tail:
        client.send_headers(1, tail, end_stream=True)
    status, answer = 0, b""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        connection.sendall(client.data_to_send())
        while data := connection.recv(65536):
            for event in client.receive_data(data):
                if isinstance(event, ResponseReceived):
                    status = int(dict(event.headers)[b":status"])
                elif isinstance(event, DataReceived):
                    answer += event.data
                elif isinstance(event, StreamEnded):
                    return status, answer
                elif isinstance(event, StreamReset | ConnectionTerminated):
                    return RESET
    return RESET


def _raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
