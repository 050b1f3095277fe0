"""The reference MCP server: both protocol eras over streamable HTTP on one URL."""

from collections.abc import Sequence

from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http_manager import StreamableHTTPASGIApp
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.routing import Route

from backend.demo.business import Ledger, add_business
from backend.demo.fixtures import add_fixtures, schema_tool
from backend.demo.resumption import ResumableSessions

PATH = "/mcp"
"""Where the server answers."""

LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "[::1]")
"""The Host values that are always answered, on any port."""

RETRY_MILLISECONDS = 500
"""How soon a legacy client whose stream was cut should come back."""


def build_server() -> MCPServer:
    """A new server with its own ledger and every tool, resource and prompt."""
    server = MCPServer(
        name="reference-server",
        version="1.0.0",
        instructions="Invoices of a made-up business, and the fixtures of the conformance suite.",
        log_level="WARNING",
        tools=[schema_tool()],
    )
    add_business(server, Ledger())
    add_fixtures(server)
    return server


def build_app(*, allowed_hosts: Sequence[str] = LOOPBACK_HOSTS) -> Starlette:
    """The ASGI application that serves a new server on `/mcp`.

    `allowed_hosts` are the Host values (without port, any port) that are answered; other hosts
    get 421 and other origins 403, which is what stops DNS rebinding. `*` answers every host: for
    a server that only its proxy can reach.
    """
    sessions = ResumableSessions(
        build_server()._lowlevel_server,
        retry_interval=RETRY_MILLISECONDS,
        security_settings=_security(allowed_hosts),
    )
    return Starlette(
        routes=[Route(PATH, StreamableHTTPASGIApp(sessions))],
        lifespan=lambda _app: sessions.run(),
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
