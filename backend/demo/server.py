"""The reference MCP server: both protocol eras over streamable HTTP on one URL."""

from collections.abc import Sequence

from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette

from backend.demo.business import Ledger, add_business

PATH = "/mcp"
"""Where the server answers."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")


def build_server() -> MCPServer:
    """A new server with its own ledger and every tool, resource and prompt."""
    server = MCPServer(
        name="reference-server",
        version="1.0.0",
        instructions="Invoices of a made-up business.",
        log_level="WARNING",
    )
    add_business(server, Ledger())
    return server


def build_app(*, allowed_hosts: Sequence[str] = LOOPBACK_HOSTS) -> Starlette:
    """The ASGI application that serves a new server on `/mcp`.

    `allowed_hosts` are the Host values (without port, any port) that are answered; other hosts
    get 421 and other origins 403, which is what stops DNS rebinding. `*` answers every host: for
    a server that only its proxy can reach.
    """
    return build_server().streamable_http_app(
        streamable_http_path=PATH, transport_security=_security(allowed_hosts)
    )


def _security(allowed_hosts: Sequence[str]) -> TransportSecuritySettings:
    if "*" in allowed_hosts:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    return TransportSecuritySettings(
        allowed_hosts=[name for host in allowed_hosts for name in (host, f"{host}:*")],
        allowed_origins=[
            f"{scheme}://{name}"
            for host in allowed_hosts
            for scheme in ("http", "https")
            for name in (host, f"{host}:*")
        ],
    )
