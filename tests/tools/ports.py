"""Ports of this machine for processes that cannot pick one themselves.

They lie below those that a system gives to whoever asks for any, so that no connection takes
one before its process starts. Each process of the tests has a block of its own, held by a
listener on its first port: tests that run side by side never meet on one.
"""

import socket
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from itertools import cycle
from typing import Final

HOST: Final = "127.0.0.1"
BLOCK: Final = 500
FIRST, END = 10_000, 32_000


def free_ports(count: int) -> list[int]:
    """Loopback ports, one after the other, that nobody listens on now.

    The same ones come again only when the block is through.
    """
    found: list[int] = []
    for port in _block()[1]:
        in_a_row = bool(found) and port == found[-1] + 1
        found = [*found, port] if in_a_row else [port]
        if not _is_free(port):
            found = []
        elif len(found) == count:
            break
    return found


def free_port() -> int:
    """One of them."""
    (port,) = free_ports(1)
    return port


@cache
def _block() -> tuple[socket.socket, Iterator[int]]:
    """What holds this process's block as long as it lives, and the block's ports over and over."""
    for first in range(FIRST, END, BLOCK):
        with suppress(OSError):
            return socket.create_server((HOST, first)), cycle(range(first + 1, first + BLOCK))
    raise RuntimeError(f"every block of ports between {FIRST} and {END} is taken")


def _is_free(port: int) -> bool:
    with suppress(OSError), socket.create_server((HOST, port)):
        return True
    return False
