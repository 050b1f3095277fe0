"""Prints grants and sessions: as a table, JSON, YAML to apply again, or names."""

import json
from collections.abc import Sequence

import yaml
from rich.table import Table

from backend.cli.console import cell, print_unfolded, printable, stdout, warn
from backend.cli.objects import Done, Kind, Wire
from backend.cli.tables import aligned
from backend.cli.wire import to_manifest


def print_list(kind: Kind, wires: Sequence[Wire], output: str) -> None:
    """In mcp-runtime's columns, by namespace and name."""
    if output == "json":
        print(json.dumps(wires, indent=2))
        return
    if output != "table":
        print_objects(kind, wires, output)
        return
    table = Table("NAME", "NAMESPACE", "SERVER", kind.flag.upper(), box=None, pad_edge=False)
    for wire in wires:
        flag = str(bool(wire.get(kind.flag))).lower()
        row = (wire["name"], wire["namespace"], wire["serverRef"]["name"], flag)
        table.add_row(*map(cell, row))
    print_unfolded(table)


def print_objects(kind: Kind, wires: Sequence[Wire], output: str) -> None:
    """As JSON, unless it is YAML or names that are asked for."""
    for wire in wires:
        if output == "yaml":
            manifest = to_manifest(kind, wire)
            written = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
            print(f"---\n{written}" if len(wires) > 1 else written, end="")
        elif output == "name":
            print(printable(f"{kind.group_name}/{wire['name']}"))
        else:
            print(json.dumps(wire, indent=2))


def print_done(kind: Kind, name: str, verb: str, done: Done, *, output: str, is_dry: bool) -> None:
    """What became of an object; warnings go to standard error."""
    for warning in done.warnings:
        warn(f"warning: {warning}")
    if output != "table" and done.wire is not None:
        print_objects(kind, [done.wire], output)
    else:
        would = "would be " if is_dry else ""
        print(printable(f"{kind.noun} {name} {would}{verb}"))
    if is_dry and output == "table":
        _print_effect(done.effect)


def _print_effect(effect: Wire | None) -> None:
    if effect is None:
        print("what it does to calls the api alone knows, which has their record")
        return
    looked = f"of {effect['calls']} calls since {effect['since']}"
    print(f"{effect['changed']} {looked} would be decided differently now")
    if effect["bounded"]:
        print(printable(effect["bounded"]))
    if not effect["changes"]:
        return
    table = aligned("CALLS", "CALLER", "TOOL", "WAS", "WOULD BE", numbers={"CALLS"})
    for each in effect["changes"]:
        was, will = (f"{each[side]['decision']}: {each[side]['reason']}" for side in ("from", "to"))
        caller = caller_text(each, each.get("session_id", ""))
        table.add_row(*map(cell, (each["calls"], caller, each["tool_name"], was, will)))
    stdout().print(table)


def caller_text(who: Wire, session: str = "") -> str:
    """A caller in words: agent for human, then what else is known of it."""
    known = (who.get("agent_id"), who.get("human_id"))
    text = " for ".join(name for name in known if name) or "anybody"
    extra = [f"team {who['team_id']}"] if who.get("team_id") else []
    extra += [f"session {session}"] if session else []
    return text + (f" ({', '.join(extra)})" if extra else "")
