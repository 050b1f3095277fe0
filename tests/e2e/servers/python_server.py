"""An MCP server on the Python SDK that keeps which tools ran: `python -m … --port N`.

Both eras on `/mcp`, without sessions; `GET /executed` lists the tools that ran, in order.
"""

import sys
import warnings

import uvicorn
from mcp import MCPDeprecationWarning
from mcp.server.mcpserver import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

executed: list[str] = []


def build_server() -> MCPServer:
    """A server with `echo` and `refund`."""
    server = MCPServer(name="recorder", log_level="CRITICAL")

    @server.tool(structured_output=False)
    def echo(text: str = "") -> str:
        executed.append("echo")
        return text

    @server.tool(structured_output=False)
    def refund(text: str = "") -> str:
        executed.append("refund")
        return "refunded"

    return server


async def tell(_: Request) -> JSONResponse:
    return JSONResponse(executed)


def build_app() -> Starlette:
    app = build_server().streamable_http_app(
        stateless_http=True,
        json_response=True,
        transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
    )
    app.router.routes.append(Route("/executed", tell))
    return app


if __name__ == "__main__":
    warnings.simplefilter("ignore", MCPDeprecationWarning)
    uvicorn.run(build_app(), host="127.0.0.1", port=int(sys.argv[1]), log_level="critical")
