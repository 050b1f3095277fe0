"""The options that describe a new grant or session, and what they make."""

import time
from collections.abc import Callable
from typing import Any, TypeVar

import click

from extauthz.core.errors import Invalid
from extauthz.core.model import (
    API_VERSION,
    SIDE_EFFECTS,
    TRUST_LEVELS,
    MCPAccessGrant,
    MCPAgentSession,
)
from extauthz.core.resources import parse_object
from extauthz.core.rulelines import parse_rules
from extauthz.core.times import format_second, parse_duration, parse_instant

Command = Callable[..., Any]
T = TypeVar("T", MCPAccessGrant, MCPAgentSession)
# Fields of the object, and the options that set them.
_OPTIONS = {
    "metadata.name": "NAME",
    "metadata.namespace": "--namespace",
    "spec.serverRef": "--server",
    "spec.subject": "--human, --agent or --team",
    "spec.toolRules": "--rule",
    "spec.policyVersion": "--policy-version",
}


def grant_options(command: Command) -> Command:
    """What a grant says."""
    for option in reversed((
        click.option(
            "--max-trust", type=click.Choice(TRUST_LEVELS), default="low", show_default=True
        ),
        click.option(
            "--rule",
            "rules",
            multiple=True,
            metavar="TOOL:allow|deny[:TRUST]",
            help="May be given several times; without any it covers all tools.",
        ),
        click.option(
            "--side-effect",
            "side_effects",
            multiple=True,
            type=click.Choice(SIDE_EFFECTS),
            help="Allow tools of these classes alone; may be given several times.",
        ),
    )):  # fmt: skip
        command = option(command)
    return _common(command)


def session_options(command: Command) -> Command:
    """What a session says."""
    trust = click.option(
        "--trust",
        "--consented-trust",
        "trust",
        type=click.Choice(TRUST_LEVELS),
        default="low",
        show_default=True,
        help="How much trust was consented to.",
    )
    return _common(trust(command))


def new_grant(
    *, max_trust: str, rules: tuple[str, ...], side_effects: tuple[str, ...], **common: str
) -> MCPAccessGrant:
    """Raises: click.BadParameter."""
    try:
        parsed = parse_rules("\n".join(rules), "--rule")
    except Invalid as error:
        raise click.UsageError(str(error)) from error
    written = [
        {"name": rule.name, "decision": rule.decision, "requiredTrust": rule.required_trust}
        for rule in parsed
    ]
    effects = {"allowedSideEffects": list(side_effects)} if side_effects else {}
    return _made(MCPAccessGrant, {"maxTrust": max_trust, "toolRules": written} | effects, common)


def new_session(*, trust: str, **common: str) -> MCPAgentSession:
    """Raises: click.BadParameter."""
    return _made(MCPAgentSession, {"consentedTrust": trust}, common)


def _common(command: Command) -> Command:
    """What both say: for which server and whom, and how long."""
    for option in reversed((
        click.option(
            "--server", required=True, metavar="NS/NAME", help="The MCPServer that it is for."
        ),
        click.option("--namespace", default="", help="Default: that of the server."),
        click.option("--human", default="", help="Whom it is for: this human,"),
        click.option("--agent", default="", help="this agent,"),
        click.option("--team", default="", help="this team; all that are given must match."),
        click.option(
            "--expires",
            default="",
            metavar="WHEN",
            help="In so long (8h), or at a time (RFC 3339); default: never.",
        ),
        click.option("--policy-version", default="", help="Your name for it; events carry it."),
    )):  # fmt: skip
        command = option(command)
    return command


def _made(kind: type[T], spec: dict[str, Any], given: dict[str, str]) -> T:
    """The object; `given` are the options of `_common`, and the name."""
    of_server, _, server = given["server"].rpartition("/")
    if not (of_server and server):
        raise click.UsageError(f"--server: `{given['server']}` is not NAMESPACE/NAME; write it so")
    common = {
        "serverRef": {"name": server, "namespace": of_server},
        "subject": {
            "humanID": given["human"],
            "agentID": given["agent"],
            "teamID": given["team"],
        },
        "expiresAt": _end(given["expires"]),
        "policyVersion": given["policy_version"],
    }
    metadata = {"name": given["name"], "namespace": given["namespace"] or of_server}
    try:
        found = parse_object(
            {
                "apiVersion": API_VERSION,
                "kind": kind.__name__,
                "metadata": metadata,
                "spec": spec | common,
            }
        )
    except Invalid as error:
        field = max((f for f in _OPTIONS if error.field.startswith(f)), key=len, default="")
        where = _OPTIONS.get(field, error.field)
        raise click.UsageError(str(Invalid(where, error.problem, error.mend))) from error
    assert isinstance(found, kind)
    return found


def _end(text: str) -> str:
    """A moment to come, RFC 3339; empty for none."""
    if not text:
        return ""
    now = time.time()
    try:
        at = parse_instant(text, "") if text[:4].isdigit() and "-" in text else None
        if at is None:
            return format_second(now + parse_duration(text, ""))
    except (Invalid, OverflowError, ValueError):
        mend = "write it like 8h, 1h30m or 2026-12-31T23:59:59Z"
        raise click.UsageError(f"--expires: `{text[:64]}` is no time; {mend}") from None
    if at <= now:
        raise click.UsageError(f"--expires: `{text[:64]}` is over; write a time to come")
    return text
