"""`sentinel call`: one tool call through the official MCP client."""

import asyncio
import json
import logging
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from backend.cli.console import DENIED, Failure, cell, json_option, printable, stdout
from backend.cli.running import state_option, the_running
from extauthz.core.model import AGENT_HEADER, HUMAN_HEADER, SESSION_HEADER, TEAM_HEADER

# Headers of MCPServer's defaults; a server may name others (`--header`).
IDENTITY_HEADERS = {
    "human": HUMAN_HEADER,
    "agent": AGENT_HEADER,
    "team": TEAM_HEADER,
    "session": SESSION_HEADER,
}
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # a token of RFC 9110


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: a result, or a JSON-RPC error.

    Args:
        result: as JSON; empty where there is an error.
        error: `{code, message, data}`; empty where there is a result.
    """

    result: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] = field(default_factory=dict)

    @property
    def denied(self) -> bool:
        """Whether Sentinel refused it: its errors name the decision."""
        data = self.error.get("data")
        return isinstance(data, dict) and "decision_id" in data


@click.command()
@click.argument("tool")
@click.option("--arguments", default="{}", metavar="JSON", help="The tool's arguments.")
@click.option("--human", default="", help="Who calls: the human.")
@click.option("--agent", default="", help="Who calls: the agent.")
@click.option("--team", default="", help="Who calls: the team, not the server's owner.")
@click.option("--session", default="", help="The session that it calls in.")
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE", help="Another header.")
@click.option("--url", default="", help="MCP server to call; default: the governed one.")
@state_option
@json_option
def call(
    *,
    tool: str,
    arguments: str,
    headers: tuple[str, ...],
    url: str,
    state: Path,
    as_json: bool,
    **identity: str,
) -> None:
    """Call TOOL through the governed MCP server, as an agent would.

    Exit code 4 says that the policy denied it, 1 that the tool or the server failed.
    """
    target = url or the_running(state).endpoints.mcp
    sent = [
        _header(f"--{who}", IDENTITY_HEADERS[who], value)
        for who, value in identity.items()
        if value
    ]
    sent += [_header("--header", *_pair(text)) for text in headers]
    answer = asyncio.run(_call(target, sent, tool, _object(arguments)))
    if as_json:
        print(json.dumps({"result": answer.result or None, "error": answer.error or None}))
    else:
        _show(answer)
    if answer.denied:
        raise SystemExit(DENIED)
    if answer.error or answer.result.get("isError"):
        raise SystemExit(1)


def _show(answer: Answer) -> None:
    if answer.error:
        data = answer.error.get("data")
        known = data if isinstance(data, dict) else {}
        about = [str(known[name]) for name in ("reason", "decision_id") if name in known]
        about = about or [f"code {answer.error.get('code')}"]
        message = printable(str(answer.error.get("message")))
        click.echo(f"{message} ({printable(', '.join(about))})", err=True)
        return
    console = stdout()
    for content in answer.result.get("content", []):
        shown = content.get("text") if content.get("type") == "text" else json.dumps(content)
        for line in str(shown).splitlines() or [""]:
            console.print(cell(line), soft_wrap=True)


async def _call(
    url: str, headers: list[tuple[bytes, bytes]], tool: str, arguments: dict[str, Any]
) -> Answer:
    try:
        import httpx2
        from mcp import Client, MCPError
        from mcp.client.streamable_http import streamable_http_client
    except ImportError as error:
        raise Failure(
            f"{error.name} is not installed; install `mcpruntime-sentinel[embedded]`"
        ) from error
    logging.getLogger("mcp").setLevel(logging.CRITICAL)  # it fails with a traceback otherwise
    try:
        async with (
            httpx2.AsyncClient(headers=headers, timeout=60.0) as http,
            Client(streamable_http_client(url, http_client=http)) as client,
        ):
            result = await client.call_tool(tool, arguments)
            return Answer(result=result.model_dump(mode="json", by_alias=True, exclude_none=True))
    except Exception as error:  # transports wrap theirs in groups, of many kinds
        inner = _innermost(error)
        if isinstance(inner, MCPError):
            return Answer(error=inner.error.model_dump(mode="json", exclude_none=True))
        why = str(inner) or type(inner).__name__
        raise Failure(f"{url}: {why}; is it an MCP server, and running?") from error


def _innermost(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    return error


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise click.BadParameter(
            f'`{printable(text)}` is not a JSON object; write one like \'{{"text": "hi"}}\'',
            param_hint="--arguments",
        )
    return value


def _pair(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator or not _NAME.fullmatch(name):
        raise click.BadParameter(f"`{printable(text)}` is not NAME=VALUE", param_hint="--header")
    return name, value


def _header(option: str, name: str, value: str) -> tuple[bytes, bytes]:
    if not value.isprintable() or value != value.strip():
        raise click.BadParameter(
            f"`{printable(value)}` cannot stand in a header; leave out control characters "
            "and spaces at its ends",
            param_hint=option,
        )
    return name.encode(), value.encode()
