"""The parameters that choose events, and how far a caller's choice reaches."""

from datetime import datetime
from typing import Final

from backend.api.parameters import Given, Parameter, moment, text
from backend.api.refusals import bad_parameter
from backend.auth.principal import Principal
from backend.queries import EventFilter
from extauthz.core.errors import Forbidden

NAMESPACE: Final = text("namespace", "Namespace of the MCP server.")
TEAM: Final = text(
    "team_id", "Team that owns the MCP server; not the caller's, which no filter chooses by."
)
SERVER: Final = text("server", "MCP server.")
DECISION: Final = text("decision", "`allow` or `deny`.")
TOOL: Final = text("tool_name", "Tool that was called.")
SINCE: Final = moment("since", "The earliest time, included")
UNTIL: Final = moment("until", "The end of the time, not included")

TEXTS: Final = (
    text("source", "Producer's name, such as `mcp-proxy`."),
    text("event_type", "Such as `mcp.request` or `governance.change`."),
    SERVER,
    NAMESPACE,
    text("cluster", "Name of the cluster."),
    TEAM,
    text("human_id", "Human on whose behalf the call was made."),
    text("agent_id", "Agent that made the call."),
    text("session_id", "Agent session."),
    DECISION,
    text("reason", "Reason code of the decision, such as `trust_too_low`."),
    TOOL,
    text("trace_id", "W3C trace id."),
    text("request_id", "The HTTP request's `x-request-id`."),
    text("producer", "Authenticated principal that sent the event."),
)
FILTERS: Final[tuple[Parameter[str] | Parameter[datetime | None], ...]] = (*TEXTS, SINCE, UNTIL)


def event_filter(given: Given, caller: Principal) -> EventFilter:
    """What the query asks for, within the caller's namespaces.

    Raises:
        Forbidden: the caller has no namespace, or asks for another one.
        Refused: a time that ends before it begins.
    """
    texts = {each.name: given[each] for each in TEXTS}
    since, until = given[SINCE], given[UNTIL]
    if since and until and since >= until:
        raise bad_parameter("since", "is not before `until`", "ask for an earlier `since`")
    return EventFilter(**texts, since=since, until=until, within=reach(caller, given[NAMESPACE]))


def reach(
    caller: Principal, namespace: str = "", *, may_be_none: bool = False
) -> frozenset[str] | None:
    """The namespaces that answers are limited to; None for all.

    Args:
        namespace: the one that is asked for; empty for all of them.
        may_be_none: let a caller without any namespace pass.

    Raises:
        Forbidden: there is none, or `namespace` is not among them, whether it exists or not.
    """
    within = caller.namespaces
    if within is None:
        return None
    if not within and not may_be_none:
        raise Forbidden("this credential reaches no namespace; use one that names some")
    if namespace and namespace not in within:
        raise Forbidden(f"forbidden namespace `{namespace[:64]}`; ask for one of your own")
    return within
