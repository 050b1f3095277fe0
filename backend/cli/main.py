"""The two commands: `sentinel`, and `mcp-runtime` with the groups that existing scripts use."""

from importlib import import_module
from typing import Any

import click

from backend.cli.console import EXIT_CODES, Group

# Loaded when used: a command pays for its own imports alone.
COMMANDS = {
    "up": "backend.cli.up:up",
    "status": "backend.cli.status:status",
    "events": "backend.cli.events:events",
    "explain": "backend.cli.explain:explain",
    "audit": "backend.cli.audit:audit",
    "dlq": "backend.cli.dlq:dlq",
    "call": "backend.cli.call:call",
    "policy": "backend.cli.policy:policy",
    "access": "backend.cli.grants:access",
    "decide": "backend.cli.decide:decide",
    "keys": "backend.cli.keys:keys",
    "replay": "backend.cli.replay:replay",
    "migrate": "backend.cli.migrate:migrate",
}
RUNTIME_COMMANDS = {"status": COMMANDS["status"]}


class LazyGroup(Group):
    """A group whose commands are imported when asked for."""

    def __init__(self, *args: Any, commands_at: dict[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.commands_at = commands_at

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*super().list_commands(ctx), *self.commands_at]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.commands_at:
            return super().get_command(ctx, cmd_name)
        module, _, name = self.commands_at[cmd_name].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=LazyGroup, commands_at=COMMANDS, epilog=EXIT_CODES)
@click.version_option(package_name="mcpruntime-sentinel")
def sentinel() -> None:
    """Govern live MCP traffic: Envoy in front, decisions by grants, an audit trail."""


@click.group(cls=LazyGroup, commands_at={"access": COMMANDS["access"]}, epilog=EXIT_CODES)
@click.version_option(package_name="mcpruntime-sentinel")
def mcp_runtime() -> None:
    """The commands of mcp-runtime that Sentinel answers to."""


@mcp_runtime.group("sentinel", cls=LazyGroup, commands_at=RUNTIME_COMMANDS, epilog=EXIT_CODES)
def mcp_runtime_sentinel() -> None:
    """Look at a running Sentinel."""
