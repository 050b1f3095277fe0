"""Every change within a small world: called tightening, it lets no call pass that was denied."""

from collections.abc import Mapping, Sequence
from itertools import chain, product
from typing import Any, Final

import pytest
from objects import grant, server, session
from test_remedies import COMING, NOW
from test_tightening import LATER, snapshot

from extauthz.core.decision import ObjectRef
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer, Resource
from extauthz.core.request import Call, Identity
from extauthz.core.resources import parse_object
from extauthz.core.tightening import only_tightens

REF: Final = ObjectRef("ns", "srv")
TOOLS: Final = [{"name": "read", "sideEffect": "read"}, {"name": "wipe", "requiredTrust": "high"}]
CALLERS: Final = [Identity("", "a", "", name) for name in ("", "it", "s0", "unknown")]
CALLS: Final = [Call(method="tools/call", tool=tool) for tool in ("read", "wipe", "undeclared")]
FORCE: Final[list[dict[str, Any]]] = [{}, {"disabled": True}, {"expiresAt": COMING}]
RULES: Final[list[list[dict[str, str]]]] = [
    [],
    [{"name": "read"}],
    [{"name": "read", "decision": "deny"}],
    [{"name": "read", "requiredTrust": "high"}, {"name": "undeclared"}],
]
GRANTS: Final = [None] + [
    parse_object(grant("it", maxTrust=trust, toolRules=rules, **effects, **force))
    for trust, rules, effects, force in product(
        ("low", "high"), RULES, ({}, {"allowedSideEffects": ["read"]}), FORCE
    )
]
SESSIONS: Final = [None] + [
    parse_object(session("it", consentedTrust=trust, **force))
    for trust, force in product(("low", "medium", "high"), [{}, {"revoked": True}, FORCE[2]])
]
OTHERS: Final[list[list[Resource]]] = [
    [],
    [parse_object(grant("open", maxTrust="high"))],
    [parse_object(grant("off", disabled=True))],
    [parse_object(grant("some", toolRules=[{"name": "wipe"}])), parse_object(session("s0"))],
]


def allowed(made: MCPServer, items: Sequence[Resource]) -> list[bool]:
    """Of every call, now and later."""
    found = snapshot(made, list(items))
    return [
        found.decide_call(call, caller, None, now).allowed
        for call, caller, now in product(CALLS, CALLERS, (NOW, LATER))
    ]


@pytest.mark.parametrize("needs_session", [False, True])
@pytest.mark.parametrize("default", ["deny", "allow"])
@pytest.mark.parametrize("states", [GRANTS, SESSIONS], ids=["grants", "sessions"])
def test_no_change_lets_pass_what_was_denied(
    states: Sequence[MCPAccessGrant | MCPAgentSession | None], default: str, needs_session: bool
) -> None:
    """Whatever stands beside it; and there are such changes."""
    made = parse_object(
        server(
            policy={"defaultDecision": default}, session={"required": needs_session}, tools=TOOLS
        )
    )
    assert isinstance(made, MCPServer)
    servers: Mapping[ObjectRef, MCPServer] = {REF: made}
    told = [
        [allowed(made, [*others, each] if each else others) for others in OTHERS] for each in states
    ]
    tightening = 0
    for (before, was), (after, will) in product(zip(states, told, strict=True), repeat=2):
        if before != after and only_tightens(before, after, servers, NOW):
            tightening += 1
            pairs = zip(chain(*was), chain(*will), strict=True)
            assert not any(now and not then for then, now in pairs), (before, after)
    assert tightening > len(states)
