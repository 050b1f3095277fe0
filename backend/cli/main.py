"""The two commands: `sentinel`, and `mcp-runtime` with the groups that existing scripts use."""

import click

from backend.cli.console import EXIT_CODES, LazyGroup

# Loaded when used: a command pays for its own imports alone.
COMMANDS = {
    "up": "backend.cli.up:up",
    "ui": "backend.cli.ui:ui",
    "status": "backend.cli.status:status",
    "restart": "backend.cli.restart:restart",
    "logs": "backend.cli.logs:logs",
    "port-forward": "backend.cli.port_forward:port_forward",
    "kube-events": "backend.cli.kube_events:kube_events",
    "events": "backend.cli.events:events",
    "explain": "backend.cli.explain:explain",
    "audit": "backend.cli.audit:audit",
    "dlq": "backend.cli.dlq:dlq",
    "call": "backend.cli.call:call",
    "policy": "backend.cli.policy:policy",
    "access": "backend.cli.grants:access",
    "adopt": "backend.cli.adopt:adopt",
    "decide": "backend.cli.decide:decide",
    "keys": "backend.cli.keys:keys",
    "replay": "backend.cli.replay:replay",
    "migrate": "backend.cli.migrate:migrate",
}
RUNTIME_COMMANDS = {name: COMMANDS[name] for name in ("status", "logs", "port-forward", "restart")}
RUNTIME_COMMANDS["events"] = COMMANDS["kube-events"]  # of pods, as mcp-runtime has it


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
    """Look at a running Sentinel, and restart its components."""
