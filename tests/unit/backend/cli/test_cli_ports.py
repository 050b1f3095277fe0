"""Ports are checked before anything starts."""

import socket

import pytest

from backend.cli.ports import Ports, check_free
from extauthz.core.errors import Conflict


def test_the_default_ports() -> None:
    """The numbers that the documentation names."""
    ports = Ports()
    assert (ports.api, ports.ingest, ports.upstream, ports.mcp) == (8080, 8081, 8090, 8091)
    assert (ports.operations, ports.backend_metrics) == (8092, 8093)


def test_the_upstream_needs_a_port_only_when_it_is_started() -> None:
    """`--upstream` needs none of ours."""
    ports = Ports()
    assert ports.upstream in ports.needed(starts_upstream=True).values()
    assert ports.upstream not in ports.needed(starts_upstream=False).values()


def test_a_taken_port_is_named_with_what_needs_it_and_the_mend() -> None:
    """One line says all."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        message = f"port {port}, which the api needs, is taken; .*--port-base"
        with pytest.raises(Conflict, match=message):
            check_free({"the api": port})


def test_a_free_port_passes() -> None:
    """A port that nobody listens on can be had."""
    with socket.socket() as once:
        once.bind(("127.0.0.1", 0))
        port = once.getsockname()[1]
    assert check_free({"the api": port}) is None  # nothing is raised
