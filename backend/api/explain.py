"""`/runtime/explain`: why a call is, or was, decided so, and what would allow it."""

from collections.abc import Sequence
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Final

import msgspec
from flask import Response

from backend.api.answers import json_response
from backend.api.explain_recorded import Recorded, kind_of, read_recorded
from backend.api.explain_view import Explanation
from backend.api.explanations import Asked, Explanations
from backend.api.parameters import Parameter, Place
from backend.api.refusals import bad_body
from backend.api.routes import READ, Answer, Call, Group, Route, get
from backend.auth.principal import Principal
from backend.ports.event_store import EVENT_TIMES_END, EventStore
from extauthz.core import request as asking
from extauthz.core.decision import ObjectRef
from extauthz.core.errors import Invalid, NotFound
from extauthz.core.methods import TOOL_CALLS
from extauthz.core.model import DEFAULT_NAMESPACE
from extauthz.core.request import Identity
from extauthz.core.times import parse_moment

Name = Annotated[str, msgspec.Meta(max_length=256)]

REQUEST_ID: Final = Parameter(
    "request_id",
    lambda given, _now: given,
    {"type": "string", "maxLength": 256},
    "The HTTP request's `x-request-id`, or the call's `decision_id` (which is its `event_id`).",
    "",
    place=Place.PATH,
)


class ServerNamed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A governed MCP server."""

    name: Name
    namespace: Name = DEFAULT_NAMESPACE


class HypotheticalCall(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A call that nobody made.

    Args:
        server: may be left out where there is but one.
        cluster: name of its cluster, as its gateway knows it; part of the policy's revision.
        tool: for `tools/call`, which is what an empty method means.
        time: RFC 3339, or how long ago, such as `1h30m`; empty for now. What is past is decided
            by the policy of that time.
    """

    server: ServerNamed | None = None
    cluster: Name = ""
    method: Name = ""
    tool: Name = ""
    human_id: Name = ""
    agent_id: Name = ""
    team_id: Name = ""
    session_id: Name = ""
    time: Annotated[str, msgspec.Meta(max_length=64)] = ""


def explain_group(store: EventStore, explanations: Explanations) -> Group:
    """Explains calls; the scope `read`. Who is no admin asks for calls of its own identity."""

    def happened(call: Call[None]) -> Response:
        caller = call.caller
        calls = _calls(store, call.given[REQUEST_ID], caller)
        newest, others = calls[-1], [each.event.event_id for each in calls[:-1]]
        told = explanations.recorded(newest, call.given.now, for_admin=caller.is_admin)
        return json_response(msgspec.structs.replace(told, other_events=others[::-1]))

    def hypothetical(call: Call[HypotheticalCall]) -> Response:
        caller, now = call.caller, call.given.now
        if not caller.is_admin and not _would_be_own(caller, call.body):
            raise NotFound(_NOT_YOURS)
        asked = _asked(call.body, explanations, caller, now)
        return json_response(explanations.hypothetical(asked, now, for_admin=caller.is_admin))

    return Group(
        "explain",
        [
            get(
                "/runtime/explain/<request_id>",
                happened,
                "Why a call was decided so; of several with one request id, the newest.",
                Answer(Explanation),
                REQUEST_ID,
                problems=(HTTPStatus.NOT_FOUND,),
            ),
            Route(
                method="POST",
                path="/runtime/explain",
                serve=hypothetical,
                summary="Why a hypothetical call would be decided so.",
                answer=Answer(Explanation),
                needs=READ,
                problems=(HTTPStatus.NOT_FOUND,),
                body=HypotheticalCall,
            ),
        ],
    )


_NOT_YOURS: Final = (
    "no such call of yours; ask for one that your token's `sub` or verified `email` made, without"
    " `team_id`, or use an admin's credential"
)


def is_own(caller: Principal, human_id: str, agent_id: str) -> bool:
    """Whether a call with this identity is the caller's own; nobody's is where it names nobody.

    A human is known by the token's subject or verified e-mail address, an agent that signs in
    by itself (and then calls for no human) by its subject.
    """
    if human_id:
        return human_id in {caller.subject, caller.email} - {""}
    return bool(agent_id) and agent_id == caller.subject


def _would_be_own(caller: Principal, body: HypotheticalCall) -> bool:
    """Nobody but an admin may claim a team: a token does not tell it."""
    return not body.team_id and is_own(caller, body.human_id, body.agent_id)


def _calls(store: EventStore, asked: str, caller: Principal) -> Sequence[Recorded]:
    """The calls that an id names: of a request the newest last, of an event a gateway's last.

    Raises:
        NotFound: there are none, or none that the caller may see, or that tells a decision.
    """
    events = store.by_request(asked) or store.by_id(asked)[::-1]
    own = [e for e in events if caller.is_admin or is_own(caller, e.human_id, e.agent_id)]
    if not own:
        hint = "it takes two seconds to be there; look for it with `sentinel events`"
        hint = hint if caller.is_admin else "it does not exist, or is not yours"
        raise NotFound(f"no call with the request id or event id `{asked[:256]}`; {hint}")
    # Anybody may send an event with the same id: one that tells nothing hides no other.
    told = [recorded for event in own if (recorded := read_recorded(event))]
    if not told:
        problem = f"event `{own[-1].event_id}` tells no decision that can be explained"
        raise NotFound(f"{problem}; ask for the event of a call")
    return told


def _asked(
    body: HypotheticalCall, explanations: Explanations, caller: Principal, now: datetime
) -> Asked:
    """Raises: Refused, NotFound."""
    method = body.method or "tools/call"
    if method in TOOL_CALLS and not body.tool:
        raise bad_body("tool", "is required for `tools/call`", "name the tool")
    if method not in TOOL_CALLS and body.tool:
        raise bad_body("tool", f"does not go with `{method[:64]}`", "leave out one of the two")
    call = asking.Call(kind=kind_of(method), method=method, tool=body.tool)
    identity = Identity(body.human_id, body.agent_id, body.team_id, body.session_id)
    server = _server(body, explanations, caller)
    return Asked(server, body.cluster, call, identity, _time(body.time, now))


def _server(body: HypotheticalCall, explanations: Explanations, caller: Principal) -> ObjectRef:
    """The one that is named, else the only one in the caller's namespaces."""
    if body.server is not None:
        return ObjectRef(body.server.namespace, body.server.name)
    within, known = caller.namespaces, explanations.servers()
    if within is not None:
        known = [server for server in known if server.namespace in within]
    if len(known) != 1:
        problem = f"is needed, for you reach {len(known)} MCP servers"
        raise bad_body("server", problem, "send `name` and `namespace` of one")
    return known[0]


def _time(text: str, now: datetime) -> datetime:
    if not text:
        return now
    try:
        at = parse_moment(text, "time", now.timestamp())
        if not 0 <= at < EVENT_TIMES_END:
            raise ValueError
        return datetime.fromtimestamp(at, UTC)
    except Invalid as error:
        raise bad_body("time", error.problem, error.mend) from None
    except (ValueError, OverflowError):
        raise bad_body("time", f"`{text}` is out of range", "write it like 1h") from None
