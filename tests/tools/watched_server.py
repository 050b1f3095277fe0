"""The reference MCP server with two more tools: one tells in a file how its call ended.

`PORT=3000 python -m tests.tools.watched_server FOLDER`.
"""

import sys
from os import environ
from pathlib import Path

import anyio
from mcp.server.mcpserver import Context, MCPServer

from backend.demo import server
from backend.demo.__main__ import main

build_server = server.build_server


def tell(call: str) -> None:
    """Write that this call was cancelled."""
    Path(sys.argv[1], call).write_text("cancelled")


def build_watched_server() -> MCPServer:
    """The reference server and tools for what the public suite does not ask for."""
    watched = build_server()

    @watched.tool(structured_output=False)
    async def wait_for_ever(context: Context, call: str) -> str:
        """Tell progress until cancelled; then write the file `call`."""
        step = 0
        try:
            while True:
                step += 1
                await context.report_progress(step)
                await anyio.sleep(0.05)
        except anyio.get_cancelled_exc_class():
            tell(call)
            raise

    @watched.tool(structured_output=False)
    async def announce(context: Context, uri: str) -> str:
        """Tell a legacy client, on the stream that no call owns, that a resource changed."""
        await context.session.send_resource_updated(uri)
        return "announced"

    return watched


if __name__ == "__main__":
    server.build_server = build_watched_server
    main(["--port", environ["PORT"]])
