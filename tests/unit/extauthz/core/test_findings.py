"""What is hardly meant so; the command line's tests show each sentence."""

from objects import grant, server, session

from extauthz.core.decision import ObjectRef
from extauthz.core.findings import findings
from extauthz.core.model import MCPAccessGrant, MCPAgentSession, MCPServer
from extauthz.core.resources import parse_object

NOW = 1_780_000_000.0


def found(spec: dict[str, object], *, known: bool = True) -> list[str]:
    """The fields that are found fault with."""
    item = parse_object(grant(**spec))
    made = parse_object(server(tools=[{"name": "read", "requiredTrust": "high"}]))
    assert isinstance(item, MCPAccessGrant)
    assert isinstance(made, MCPServer)
    servers = {ObjectRef(made.namespace, made.name): made} if known else None
    return [each.field for each in findings(item, servers, NOW)]


def test_what_has_no_effect_is_found() -> None:
    """Each where it stands."""
    assert found({"toolRules": [{"name": "read", "decision": "allow"}]}) == ["spec.toolRules[0]"]
    assert found({"toolRules": [{"name": "x"}]}) == ["spec.toolRules[0].name"]
    assert found({"serverRef": {"name": "else"}}) == ["spec.serverRef"]
    assert found({"expiresAt": "2020-01-01T00:00:00Z"}) == ["spec.expiresAt"]
    assert found({}) == []


def test_a_revoked_session_that_nobody_has_to_name() -> None:
    """Who leaves the header out calls on; a server that requires sessions needs no warning."""
    item = parse_object(session(revoked=True))
    told = []
    for is_required in (False, True):
        made = parse_object(server(session={"required": is_required}))
        assert isinstance(item, MCPAgentSession)
        assert isinstance(made, MCPServer)
        servers = {ObjectRef(made.namespace, made.name): made}
        told.append([each.field for each in findings(item, servers, NOW)])
    assert told == [["spec.revoked"], []]


def test_servers_that_are_elsewhere_are_not_missed() -> None:
    """Only the object itself is looked at."""
    assert found({"serverRef": {"name": "else"}}, known=False) == []


def test_a_deny_rule_where_all_else_is_allowed() -> None:
    """Another spelling is another tool, and passes."""
    item = parse_object(grant(toolRules=[{"name": "read", "decision": "deny"}, {"name": "list"}]))
    tools = [{"name": "read"}, {"name": "list"}]
    told = []
    for default in ("allow", "deny"):
        made = parse_object(server(tools=tools, policy={"defaultDecision": default}))
        assert isinstance(item, MCPAccessGrant)
        assert isinstance(made, MCPServer)
        servers = {ObjectRef(made.namespace, made.name): made}
        told.append([each.problem for each in findings(item, servers, NOW)])
    [[problem], nothing] = told
    assert "`READ` too" in problem
    assert nothing == []
