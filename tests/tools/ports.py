"""Ports of this machine for processes that cannot pick one themselves."""

import socket


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens on now, each another one."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def free_port() -> int:
    """One of them."""
    (port,) = free_ports(1)
    return port
