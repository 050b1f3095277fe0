"""`sentinel explain`: why a call is, or was, decided so, and what would allow it."""

import asyncio
from typing import Any
from urllib.parse import quote

import aiohttp
import click
import yaml

from backend.cli.console import cell, printable, stdout
from backend.cli.options import output_option, print_told
from backend.cli.running import Api, api_options, get_json
from backend.cli.tables import aligned

Explanation = dict[str, Any]  # as the api sends it

STYLES = {"allow": "green", "deny": "red", "holds": "", "decides": "bold"}
MATCHES = {
    "exact": "the policy that decided",
    "nearest": "the nearest policy that is known",
    "unknown": "the policy cannot be rebuilt",
    "current": "the current policy",
}
# Option, and member of the body.
_WHO = (
    ("human", "human_id"),
    ("agent", "agent_id"),
    ("team", "team_id"),
    ("session", "session_id"),
)


@click.command()
@click.argument("request_id", default="")
@click.option("--tool", default="", help="Explain a call of this tool that nobody made.")
@click.option("--method", default="", help="Another method than tools/call.")
@click.option("--human", default="", help="Human on whose behalf it is made.")
@click.option("--agent", default="", help="Agent that makes it.")
@click.option("--team", default="", help="The caller's team, not the server's owner.")
@click.option("--session", default="", help="Session that it names.")
@click.option("--server", default="", metavar="NS/NAME", help="Default: the only MCPServer.")
@click.option(
    "--time", "at", default="", metavar="WHEN", help="So long ago (1h30m), or a time (RFC 3339)."
)
@output_option("the reason of the decision")
@api_options
def explain(*, request_id: str, output: str, api: Api, **asked: str) -> None:
    """Explain the decision of a call: row by row, and what would allow it.

    REQUEST_ID is the request's x-request-id or the decision's id. Without it the call is
    hypothetical, such as --tool echo --agent ops-agent.
    """
    told = asyncio.run(_ask(api, request_id, body_of(request_id, asked)))
    if not print_told(output, told, [told["decision"]["reason"]]):
        show(told)


def body_of(request_id: str, asked: dict[str, str]) -> dict[str, Any] | None:
    """The hypothetical call that the options make; None where a request is named.

    Raises:
        click.UsageError: both, or neither.
    """
    given = [name for name, value in asked.items() if value]
    if request_id:
        if given:
            option = "time" if given[0] == "at" else given[0]
            raise click.UsageError(f"REQUEST_ID goes without --{option}; give one of the two")
        return None
    if not asked["tool"] and not asked["method"]:
        raise click.UsageError("what is to be explained? give REQUEST_ID, --tool or --method")
    members = {"tool": asked["tool"], "method": asked["method"], "time": asked["at"]}
    body: dict[str, Any] = members | {member: asked[name] for name, member in _WHO}
    if asked["server"]:
        namespace, _, name = asked["server"].rpartition("/")
        body["server"] = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {name: value for name, value in body.items() if value}


async def _ask(api: Api, request_id: str, body: dict[str, Any] | None) -> Explanation:
    async with aiohttp.ClientSession() as session:
        told: Explanation
        if body is None:
            url = api.at(f"/api/runtime/explain/{quote(request_id, safe='')}")
            told = await get_json(session, url, api.key)
        else:
            url = api.at("/api/runtime/explain")
            told = await get_json(session, url, api.key, method="POST", body=body)
    return told


def show(told: Explanation) -> None:
    """Print an explanation for people; strings of callers are shown literally."""
    console, decision = stdout(), told["decision"]
    headline = f"{decision['effect']}: {decision['reason']}"
    if would := decision.get("would"):
        headline += f" (observed; would be {would['effect']}: {would['reason']})"
    console.print(cell(headline, STYLES.get(decision["effect"], "")), soft_wrap=True)
    for line in (_call(told), *_policy(told)):
        console.print(cell(line), soft_wrap=True)
    console.print()
    table = aligned("ROW", "CONDITION", "OUTCOME", "DETAIL", wrapped={"DETAIL"})
    for row in decision["explanation"]:
        style = STYLES.get(row["outcome"], "")
        values = (row["row"], row["condition"], row["outcome"], row["detail"])
        table.add_row(*(cell(value, style) for value in values))
    console.print(table)
    for line in _ways_out(told):
        print(printable(line) if line else "")


def _call(told: Explanation) -> str:
    call = told["call"]
    who = " for ".join(call[name] for name in ("agent_id", "human_id") if call.get(name))
    extra = [f"team {call['team_id']}"] if call.get("team_id") else []
    extra += [f"session {call['session_id']}"] if call.get("session_id") else []
    what = " ".join(filter(None, (call.get("method", ""), call.get("tool", "")))) or "no message"
    by = f"by {who or 'nobody'}" + (f" ({', '.join(extra)})" if extra else "")
    server = call["server"]
    return f"{what} {by} on {server['namespace']}/{server['name']} at {told['time']}"


def _policy(told: Explanation) -> list[str]:
    policy = told["policy"]
    lines = [f"policy {policy['revision'] or '-'}: {MATCHES[policy['match']]}"]
    if policy.get("rebuilt_revision"):
        lines.append(f"rebuilt {policy['rebuilt_revision']}")
    lines += [f"note: {policy['note']}"] if policy.get("note") else []
    if other := told.get("disagrees"):
        lines.append(f"note: the rebuilt policy says {other['effect']}: {other['reason']}")
    if now := told.get("now"):
        lines.append(f"now {now['effect']}: {now['reason']}, policy {now['revision'] or '-'}")
    if others := told.get("other_events"):
        lines.append(f"further calls of this request: {', '.join(others)}")
    return lines


def _ways_out(told: Explanation) -> list[str]:
    """The smallest change as YAML to apply, and the others in a line each."""
    lines = []
    if smallest := told.get("smallest_change"):
        opens = "; it may let others through, too" if smallest["opens_to_others"] else ""
        lines += ["", f"Smallest change that allows it{opens}:"]
        for change in smallest["changes"]:
            written = yaml.safe_dump(change["patch"], sort_keys=False, allow_unicode=True)
            how = "a merge patch" if change["action"] == "patch" else "a new object"
            lines += [f"# {change['summary']} ({how})", *written.splitlines(), "---"]
        lines.pop()
    for other in told.get("alternatives", ()):
        summary = "; ".join(change["summary"] for change in other["changes"])
        lines.append(f"or: {summary}" + (" (for others, too)" if other["opens_to_others"] else ""))
    if told.get("advice"):
        lines += ["", told["advice"]]
    return lines
