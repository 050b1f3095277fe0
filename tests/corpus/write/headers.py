"""Headers: twice, at odds with the body, or forging who calls."""
# ruff: noqa: RUF001  (look-alikes are the point)

from collections.abc import Iterator

from tests.corpus.case import Case
from tests.corpus.write.shape import CALL, ECHO, META, Headers, both, head, swap, text

AGENT = "X-MCP-Agent-ID"


def twice() -> Iterator[Case]:
    """First or last wins, by server; some come joined by Envoy."""
    pairs = {
        "Content-Type": ["text/plain", "application/json"],
        "content-type": ["application/json"],
        "Authorization": ["Bearer a", "Bearer b"],
        "Mcp-Method": ["ping", "tools/call"],
        "Mcp-Name": ["echo", "refund"],
        "MCP-Protocol-Version": ["2025-11-25", "2026-07-28"],
        "mcp-protocol-version": ["2026-07-28"],
        "Mcp-Session-Id": ["a", "b"],
        "Mcp-Param-Region": ["eu", "us"],
        AGENT: ["corpus-agent", "admin"],
        "x-mcp-agent-id": ["admin"],
        "X-MCP-Human-ID": ["a", "b"],
        "X-MCP-Team-ID": ["a", "a"],
        "X-MCP-Agent-Session": ["a", "b"],
        "Host": ["server.test", "evil.test"],
    }
    for name, values in pairs.items():
        modern_alone = name.startswith("Mcp-") and name in ("Mcp-Method", "Mcp-Name")
        yield from both(
            f"twice.{name}",
            "which of the two counts?",
            CALL,
            "duplicate_header",
            {name: list(values)},
            eras=["modern"] if modern_alone else ("legacy", "modern"),
        )
    joined = {"Authorization": "Bearer a, Bearer b"}
    yield from both("twice.joined-bearer", "two tokens", CALL, "duplicate_header", joined)
    reverse: dict[str, str | list[str] | None] = {AGENT: ["admin", "corpus-agent"]}
    yield from both("twice.agent-reversed", "either may count", CALL, "duplicate_header", reverse)
    for name in (AGENT, "Mcp-Session-Id", "Authorization"):
        value = "caf\xe9"
        yield from both(
            f"header.latin-1-{name}",
            "bytes that are not UTF-8",
            CALL,
            "invalid_header",
            {name: value},
        )


def eras() -> Iterator[Case]:
    """A server picks the era by one of header and body; both must say the same."""
    why, reason = "one era by the header, another by the body", "header_mismatch"
    modern = CALL.replace("@", "," + META)
    for name, version in {
        "legacy": "2025-11-25",
        "oldest": "2024-11-05",
        "absent": None,
        "empty": "",
        "unknown": "2027-01-01",
        "upper": "2026-07-28Z",
        "joined": "2026-07-28, 2025-11-25",
        "quoted": '"2026-07-28"',
    }.items():
        change = {"MCP-Protocol-Version": version}
        yield from both(f"era.header-{name}", why, modern, reason, change, eras=["modern"])
    for name, value in {
        "older": '"2025-11-25"',
        "unknown": '"2027-01-01"',
        "number": "20260728",
        "null": "null",
        "list": '["2026-07-28"]',
        "empty": '""',
        "space": '"2026-07-28 "',
        "escaped-other": '"2026-07-2\\u0039"',
    }.items():
        bent = modern.replace('"2026-07-28"', value)
        yield from both(f"era.body-{name}", why, bent, reason, eras=["modern"])
    bare = CALL.replace("@", "")
    missing = "a modern call states its revision in the body"
    yield from both("era.body-none", missing, bare, "invalid_params", eras=["modern"])
    empty = CALL.replace("@", ',"_meta":{}')
    yield from both("era.body-bare", missing, empty, "invalid_params", eras=["modern"])
    for name, version in {
        "later": "2027-01-01",
        "draft": "draft",
        "spelled": "2025-11-25 ,",
    }.items():
        change = {"MCP-Protocol-Version": version}
        yield from both(
            f"era.unknown-{name}",
            "no revision that we know",
            CALL.replace("@", ""),
            "unsupported_protocol_version",
            change,
            eras=["legacy"],
        )
    response = '{"jsonrpc":"2.0","id":1,"result":{}}'
    late = "modern clients answer nothing"
    drop: dict[str, str | list[str] | None] = {"Mcp-Method": None, "Mcp-Name": None}
    yield from both("era.response", late, response, reason, drop, eras=["modern"])


def mirrors() -> Iterator[Case]:
    """Mcp-Method and Mcp-Name repeat the body; a proxy that trusts them would be fooled."""
    reason = "header_mismatch"
    for name, value in {
        "other": "ping",
        "case": "Tools/Call",
        "none": None,
        "empty": "",
        "joined": "ping, tools/call",
        "encoded": "=?base64?dG9vbHMvY2FsbA==?=",
        "path": "tools/call/",
    }.items():
        why = "by the header another method"
        yield from both(
            f"mirror.method-{name}", why, CALL, reason, {"Mcp-Method": value}, eras=["modern"]
        )
    for name, value in {
        "other": "echo",
        "case": "Refund",
        "none": None,
        "empty": "",
        "joined": "echo, refund",
        "encoded-other": "=?base64?ZWNobw==?=",
        "encoded-broken": "=?base64?cmVmdW5k!?=",
        "encoded-loose": "=?base64?cmVmdW5l?=",
        "encoded-unpadded": "=?base64?ZWNobw?=",
        "encoded-latin-1": "=?base64?6Q==?=",
        "encoded-twice": "=?base64?PT9iYXNlNjQ/Y21WbWRXNWs9Pz0=?=",
        "q": "=?utf-8?q?refund?=",
        "percent": "%72efund",
    }.items():
        why = "by the header another tool"
        yield from both(
            f"mirror.name-{name}", why, CALL, reason, {"Mcp-Name": value}, eras=["modern"]
        )
    change: dict[str, str | list[str] | None] = {"Mcp-Name": "echo"}
    yield from both(
        "mirror.legacy-name", "old era, new header", CALL, reason, change, eras=["legacy"]
    )
    change = {"Mcp-Method": "ping"}
    yield from both("mirror.legacy-method", "the same", CALL, reason, change, eras=["legacy"])
    other = swap(ECHO, '"echo"', '"echo2"')
    yield from both(
        "mirror.echo", "header: granted, body: not", other, reason, tool="echo", eras=["modern"]
    )


def identities() -> Iterator[Case]:
    """Who calls is one header, exactly; admin could run refund."""
    denied, nobody = "no_matching_grant", "missing_identity"
    malformed = "400 malformed_http"
    values = ["ADMIN", "Admin", "admin;", "admin,corpus-agent", "corpus-agent, admin", '"admin"']
    values += [
        "admin%00",
        "=?utf-8?q?admin?=",
        "аdmin",
        "admin\xa0",
        "admin/",
        "*",
        "corpus-agent ",
    ]
    values += ["admin corpus-agent", "a" * 40_000, "admin'--", "${admin}", "admin\\0", "%61dmin"]
    for number, value in enumerate(values):
        sent = value.encode().decode("latin-1")
        reason = "tool_not_granted" if value.strip(" ") == "corpus-agent" else denied
        why = f"not the name that was granted ({value[:30]})"
        yield from both(f"identity.value-{number}", why, CALL, reason, {AGENT: sent})
    unnamed: dict[str, Headers] = {
        "none": {AGENT: None},
        "empty": {AGENT: ""},
        "spaces": {AGENT: "   "},
        "dotted": {AGENT: None, "X.MCP.Agent.ID": "admin"},
        "joined-up": {AGENT: None, "XMCPAgentID": "admin"},
        "plural": {AGENT: None, "X-MCP-Agent-IDs": "admin"},
        "session-alone": {AGENT: None, "X-MCP-Agent-Session": "s"},
        "cookie": {AGENT: None, "Cookie": "X-MCP-Agent-ID=admin"},
        "forwarded-user": {AGENT: None, "X-Forwarded-User": "admin"},
        "basic": {AGENT: None, "Authorization": "Basic YWRtaW46YWRtaW4="},
        "bearer": {AGENT: None, "Authorization": "Bearer admin"},
    }
    for name, changes in unnamed.items():
        yield from both(f"identity.{name}", "nobody is named", CALL, nobody, changes)
    beside: dict[str, Headers] = {
        "beside-forwarded": {"X-Forwarded-User": "admin", "X-Forwarded-For": "10.0.0.1"},
        "beside-envoy": {"X-Envoy-Original-Agent": "admin", "X-Envoy-Internal": "true"},
        "auth-headers": {"X-Ext-Authz": "allow", "X-Envoy-Auth-Partial-Body": "true"},
    }
    for name, changes in beside.items():
        why = "what stands beside the identity changes nothing"
        yield from both(f"identity.{name}", why, CALL, "tool_not_granted", changes)
    human = {AGENT: None, "X-MCP-Human-ID": "admin"}
    yield from both("identity.human", "a human of that name", CALL, denied, human)
    stated = swap(
        CALL, '"arguments":{}', '"arguments":{"X-MCP-Agent-ID":"admin","agentID":"admin"}'
    )
    yield from both("identity.arguments", "in the arguments", stated, "tool_not_granted")
    client = CALL.replace("@", ',"agentID":"admin","clientInfo":{"name":"admin"}@')
    yield from both("identity.client-info", "self-reported", client, "tool_not_granted")
    for era in ("legacy", "modern"):
        raw = text(era).encode()
        forged: dict[str, tuple[str, Headers]] = {
            "underscore": (malformed, {AGENT: None, "X_MCP_Agent_ID": "admin"}),
            "underscore-beside": (malformed, {"X-MCP-Agent_ID": "admin"}),
            "nul": (malformed, {AGENT: "admin\0"}),
            "control": (malformed, {AGENT: "admin\x01"}),
            "space-in-name": (malformed, {"X-MCP-Agent-ID ": "admin"}),
            "cr-in-name": (malformed, {"X-A\rX-MCP-Agent-ID": "admin"}),
            "folded": (denied, {AGENT: "corpus-agent\r\n admin"}),
            "bare-cr": (denied, {AGENT: "corpus-agent\rX-MCP-Agent-ID: admin"}),
            "bare-cr-beside": ("tool_not_granted", {"X-A": "a\rX-MCP-Agent-ID: admin"}),
            "hop-by-hop": (nobody, {"Connection": "x-mcp-agent-id"}),
            "type-hop-by-hop": (
                "unsupported_media_type",
                {"Connection": "content-type, mcp-protocol-version"},
            ),
        }
        for name, (expect, changes) in forged.items():
            top = head(era, raw, changes)
            why = "some servers read another identity in it"
            yield Case(f"identity.{name}.{era}", why, top, raw, (expect,), alone=False)
        query = head(era, raw, {AGENT: None}, line="POST /mcp?X-MCP-Agent-ID=admin HTTP/1.1")
        yield Case(f"identity.query.{era}", "in the query", query, raw, (nobody,))
