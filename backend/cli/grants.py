"""`access grant|session list|get`: what the access directory holds, in mcp-runtime's columns."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from backend.cli.access import Access, read_access
from backend.cli.console import Group, cell, json_option, print_unfolded, printable, stderr
from backend.cli.running import state_option, the_running
from extauthz.core.errors import NotFound
from extauthz.core.model import DEFAULT_NAMESPACE, MCPAccessGrant, MCPAgentSession

Item = MCPAccessGrant | MCPAgentSession


@click.group(cls=Group)
def access() -> None:
    """Look at grants and sessions; edit the access directory to change them."""


@access.group(cls=Group)
def grant() -> None:
    """Who may call which tools."""


@access.group(cls=Group)
def session() -> None:
    """Who works with which server, with how much consent."""


def _where(command: Callable[..., None]) -> Callable[..., None]:
    """The options that say which objects: the directory and the namespace."""
    namespace = click.option("--namespace", default=DEFAULT_NAMESPACE, show_default=True)
    folder = click.option(
        "--access",
        "folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Access directory; that of the running `sentinel up` by default.",
    )
    return state_option(folder(namespace(command)))


_all = click.option("--all-namespaces", is_flag=True, help="Whatever the namespace.")


@grant.command("list")
@_where
@_all
@json_option
def list_grants(*, all_namespaces: bool, as_json: bool, **where: Any) -> None:
    """List grants."""
    _print_list(_read(where).grants, "DISABLED", all_namespaces, as_json, where["namespace"])


@session.command("list")
@_where
@_all
@json_option
def list_sessions(*, all_namespaces: bool, as_json: bool, **where: Any) -> None:
    """List sessions."""
    _print_list(_read(where).sessions, "REVOKED", all_namespaces, as_json, where["namespace"])


@grant.command("get")
@click.argument("name")
@_where
@json_option
def get_grant(*, name: str, as_json: bool, **where: Any) -> None:
    """Print one grant as JSON (with or without --json, as mcp-runtime does)."""
    _print_one(_read(where).grants, "grant", name, where["namespace"])


@session.command("get")
@click.argument("name")
@_where
@json_option
def get_session(*, name: str, as_json: bool, **where: Any) -> None:
    """Print one session as JSON (with or without --json, as mcp-runtime does)."""
    _print_one(_read(where).sessions, "session", name, where["namespace"])


def _read(where: dict[str, Any]) -> Access:
    folder = where["folder"] or Path(the_running(where["state"]).access_dir)
    found = read_access(folder)
    for fault in found.faults:  # what cannot be read is not listed, and that is said
        stderr().print(f"warning: {printable(str(fault))}", markup=False)
    return found


def _print_list(
    items: list[Any], flag: str, all_namespaces: bool, as_json: bool, namespace: str
) -> None:
    chosen = sorted(
        (item for item in items if all_namespaces or item.namespace == namespace),
        key=lambda item: (item.namespace, item.name),
    )
    if as_json:
        print(json.dumps([to_wire(item) for item in chosen], indent=2))
        return
    table = Table("NAME", "NAMESPACE", "SERVER", flag, box=None, pad_edge=False)
    for item in chosen:
        table.add_row(*map(cell, (item.name, item.namespace, item.server.name, _flag(item))))
    print_unfolded(table)


def _print_one(items: list[Any], kind: str, name: str, namespace: str) -> None:
    for item in items:
        if (item.namespace, item.name) == (namespace, name):
            print(json.dumps(to_wire(item), indent=2))
            return
    raise NotFound(f"no {kind} `{namespace}/{name}`; look at `access {kind} list --all-namespaces`")


def _flag(item: Item) -> str:
    is_off = item.disabled if isinstance(item, MCPAccessGrant) else item.revoked
    return str(is_off).lower()


def to_wire(item: Item) -> dict[str, Any]:
    """The members that mcp-runtime's api and command line know, and the rest of ours."""
    wire: dict[str, Any] = {
        "name": item.name,
        "namespace": item.namespace,
        "serverRef": {"name": item.server.name, "namespace": item.server.namespace},
        "subject": _set(
            humanID=item.subject.human_id,
            agentID=item.subject.agent_id,
            teamID=item.subject.team_id,
        ),
    }
    optional = {"policyVersion": item.policy_version, "expiresAt": item.expires_at}
    if isinstance(item, MCPAgentSession):
        wire |= {"consentedTrust": item.consented_trust, "revoked": item.revoked}
        return wire | _set(**optional)
    wire |= {"maxTrust": item.max_trust, "disabled": item.disabled}
    rules = [
        _set(name=rule.name, decision=rule.decision, requiredTrust=rule.required_trust)
        for rule in item.tool_rules
    ]
    effects = list(item.allowed_side_effects)
    return wire | _set(**optional, toolRules=rules, allowedSideEffects=effects)


def _set(**members: Any) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value}
