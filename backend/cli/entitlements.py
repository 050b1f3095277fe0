"""`access who-can`, `what-can`, `unused`: what the policy makes possible, and what nobody needs."""

from collections.abc import Iterator
from typing import Any

import click
from rich.table import Table

from backend.cli.answers import Answers, Told
from backend.cli.console import cell, printable, stderr, stdout
from backend.cli.options import moment, output_option, print_told
from backend.cli.places import answers_options
from backend.cli.printing import caller_text
from backend.cli.tables import aligned
from extauthz.core.decision import ObjectRef
from extauthz.core.request import Identity

STYLES = {"yes": "green", "no": "red"}
MOST_NAMED = 5  # callers that a hint names
_MORE_SESSIONS = "further sessions are not shown"


@click.command("who-can")
@click.argument("tool")
@click.option("--server", required=True, metavar="NS/NAME", help="The MCPServer that has it.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@output_option("callers that can")
@answers_options
def who_can(*, tool: str, server: str, limit: int, output: str, answers: Answers) -> None:
    """Tell who can call TOOL now, by which grant and rule, with which session, until when.

    Of a caller that several lines fit, tool_denied counts most, then a line that says yes.
    """
    told = answers.who_can(tool, _server(server), limit)
    able = [caller_text(each["caller"]) for each in told["callers"] if each["can"]]
    if not print_told(output, told, able):
        _show_callers(told)


@click.command("what-can")
@click.option("--human", default="", help="Human on whose behalf it calls.")
@click.option("--agent", default="", help="Agent that calls.")
@click.option("--team", default="", help="The caller's team, not the server's owner.")
@click.option("--session", default="", help="Session that it names; default: none, and each own.")
@click.option("--server", default="", metavar="NS/NAME", help="Default: every MCPServer.")
@output_option("tools that it can call")
@answers_options
def what_can(
    *, human: str, agent: str, team: str, session: str, server: str, output: str, answers: Answers
) -> None:
    """Tell what a caller can call now, tool by tool."""
    caller = Identity(human, agent, team, session)
    if caller.is_empty:
        raise click.UsageError("who is asked about? give --agent, --human or --team")
    told = answers.what_can(caller, _server(server) if server else ObjectRef("", ""))
    able = [
        f"{_place(each)}/{tool['tool']['name']}"
        for each in told["servers"]
        for tool in each["tools"]
        if tool["can"] and not tool["any_other"]
    ]
    if not print_told(output, told, able):
        _show_tools(told)


@click.command()
@click.option(
    "--since",
    default="30d",
    show_default=True,
    callback=lambda ctx, param, value: moment(ctx, param, _hours(value)),
    metavar="WHEN",
    help="So long ago (30d, 720h), or a time (RFC 3339); days count as a whole.",
)
@click.option("--namespace", default="", help="Default: all that the key reaches.")
@click.option("--server", default="", metavar="NAME", help="Grants for this MCPServer alone.")
@click.option("--limit", type=click.IntRange(1, 1000), default=100, show_default=True)
@output_option("grants that no call used")
@answers_options
def unused(
    *, since: str, namespace: str, server: str, limit: int, output: str, answers: Answers
) -> None:
    """Tell which grants and rules no call used.

    A grant that another one came before did nothing either. Look at the notes: what is not
    stored any more, or not yet, nobody knows.
    """
    query = {"since": since, "namespace": namespace, "server": server, "limit": str(limit)}
    told = answers.unused(query)
    grants = [_ref(each["grant"]) for each in told["unused"] if not each.get("rule")]
    if not print_told(output, told, grants):
        _show_unused(told)


def _server(text: str) -> ObjectRef:
    namespace, _, name = text.rpartition("/")
    if not (namespace and name):
        raise click.UsageError(f"--server: `{text}` is not NAMESPACE/NAME; write it so")
    return ObjectRef(namespace, name)


def _hours(since: str) -> str:
    """Days, which durations as Go writes them do not have."""
    days = since.removesuffix("d")
    return f"{int(days) * 24}h" if days != since and days.isdecimal() else since


def _show_callers(told: Told) -> None:
    policy, tool = told["policy"], told["tool"]
    if not tool["declared"]:
        _warn(f"`{_place(told)}` declares no tool `{tool['name']}`: low trust is enough")
    _say(_tool_line(tool))
    table = _table("CALLER")
    seen = set()  # with a session of its human, an agent is the one that calls for that human
    for each in told["callers"]:
        for call in _telling(each["calls"], policy["session_required"]):
            caller = caller_text(call["caller"], call.get("session", ""))
            if caller not in seen:
                table.add_row(cell(caller), *_row(call))
            seen.add(caller)
    table.add_row(cell("anybody else"), *_row(told["others"]))
    stdout().print(table)
    if any(each.get("more_sessions") for each in told["callers"]):
        _warn(f"{_MORE_SESSIONS}; `what-can --session` asks for one")
    if told["callers_left_off"]:
        _warn(f"{told['callers_left_off']} more callers are not shown; raise --limit")
    _notes(policy)


def _show_tools(told: Told) -> None:
    for fault in told["faults"]:
        _warn(fault)
    for each in told["servers"]:
        policy = each["policy"]
        _say(f"{_place(each)}:")
        table = _table("TOOL", "SESSION")
        for tool in each["tools"]:
            name = "any other" if tool["any_other"] else tool["tool"]["name"]
            for call in _telling(tool["calls"], policy["session_required"]):
                table.add_row(cell(name), cell(call.get("session") or "-"), *_row(call))
        stdout().print(table)
        if each["more_sessions"]:
            _warn(f"{_MORE_SESSIONS}; name one with --session")
        if closer := each["closer"]:
            names = "; ".join(caller_text(who) for who in closer[:MOST_NAMED])
            more = len(closer) - MOST_NAMED + each["closer_left_off"]
            rest = f" and {more} more" if more > 0 else ""
            _say(f"there are grants for this caller as {names}{rest}: ask with those fields, too")
        _notes(policy)
    if not told["servers"] and not told["faults"]:
        _say("there is no MCPServer to call")
    if told["servers_left_off"]:
        _warn(f"{told['servers_left_off']} more servers are not shown; name one with --server")


def _show_unused(told: Told) -> None:
    for note in told["notes"]:
        _warn(note)
    table = aligned("GRANT", "RULE", "SUBJECT", "STATE", "DENIED", "CREATED", numbers=("DENIED",))
    for each in told["unused"]:
        state = each["state"].replace("_", " ")
        state += f" ({each['force']})" if each["force"] != "live" else ""
        row = (
            _ref(each["grant"]),
            each.get("rule", "-"),
            caller_text(each["subject"]),
            state,
            each.get("denied", 0),
            each.get("created_at", "")[:10] or "-",
        )
        table.add_row(*map(cell, row))
    if told["unused"]:
        stdout().print(table)
    else:
        _say(f"all of {told['grants_looked_at']} grants were used since {told['since']}")
    if told["left_off"]:
        _warn(f"{told['left_off']} more are not shown; raise --limit")


def _table(*first: str) -> Table:
    return aligned(*first, "CAN", "GRANT", "RULE", "UNTIL", "WHY", wrapped={"WHY"})


def _row(call: Told) -> Iterator[Any]:
    said = call.get("would") or call
    can = "yes" if said["effect"] == "allow" else "no"
    yield cell(can, STYLES[can])
    yield cell(_ref(call["grant"]) if call.get("grant") else "-")
    yield cell(call.get("rule") or "-")
    yield cell(call.get("until", "")[:19] + "Z" if call.get("until") else "-")
    yield cell(call["why"])


def _telling(calls: list[Told], session_required: bool) -> list[Told]:
    """The call without a session, and those whose session makes a difference."""
    without, *named = calls
    if session_required and named:
        return named
    said = (without["effect"], without["reason"])
    return [without, *(call for call in named if (call["effect"], call["reason"]) != said)]


def _tool_line(tool: Told) -> str:
    effect = tool.get("side_effect") or "unknown"
    return f"{tool['name']}: needs trust {tool['required_trust']}, side effect {effect}"


def _place(told: Told) -> str:
    server = told["policy"]["server"]
    return f"{server['namespace']}/{server['name']}"


def _ref(found: Told) -> str:
    return f"{found['namespace']}/{found['name']}"


def _notes(policy: Told) -> None:
    for note in policy["notes"]:
        _say(f"note: {note}")


def _say(line: str) -> None:
    print(printable(line))


def _warn(line: str) -> None:
    stderr().print(printable(f"warning: {line}"), markup=False, soft_wrap=True)
