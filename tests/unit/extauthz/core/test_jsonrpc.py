"""The strict parse, row by row (what servers read differently is refused)."""

import json

import pytest
from messages import LEGACY, MODERN, SECRET, legacy_call, modern_call, modern_headers, post

from extauthz.core.headers import read_headers
from extauthz.core.identity import DEFAULT_WATCHED
from extauthz.core.jsonrpc import LIMITS, Refusal, read_call
from extauthz.core.methods import VERSION_KEY
from extauthz.core.reasons import Reason
from extauthz.core.request import Call, Era, Kind, Request
from extauthz.core.strictjson import MAX_DEPTH, Doubtful

JSON = {"content-type": "application/json"}


def read(request: Request) -> Call | Reason:
    """The call, or the reason why there is none."""
    try:
        call = read_call(request, read_headers(request.headers, DEFAULT_WATCHED))
    except Doubtful as refused:
        return refused.reason
    return call.reason if isinstance(call, Refusal) else call


def raw(text: str) -> Request:
    return post(text.encode("utf-8", "surrogatepass"))


def with_arguments(arguments: str) -> Request:
    """A legacy call whose arguments are this JSON text."""
    return raw(
        '{"jsonrpc":"2.0","id":1,"method":"tools/call",'
        f'"params":{{"name":"echo","arguments":{arguments}}}}}'
    )


def numbered(count: int) -> str:
    """An object of so many members."""
    return "{" + ",".join(f'"{number:x}":1' for number in range(count)) + "}"


class TestWhatPasses:
    @pytest.mark.parametrize(
        "arguments",
        [
            numbered(LIMITS.members - 8),
            '{"a":[' + "1," * (LIMITS.elements - 8) + "1]}",
            json.dumps({"a": '["{}:,\\",' * 300_000}),  # what stands in strings does not count
            '{"a":[' + '"\\\\",' * 45_000 + '"\\\\\\":,",1]}',
        ],
        ids=["members", "elements", "text", "escapes"],
    )
    def test_as_much_as_a_call_may_hold(self, arguments: str) -> None:
        """Bodies up to the limits pass, and any text does."""
        assert isinstance(read(with_arguments(arguments)), Call)

    def test_legacy_call(self) -> None:
        """A legacy tools/call is read with its tool, id and era."""
        call = read(post(legacy_call(), ("MCP-Protocol-Version", LEGACY)))
        assert isinstance(call, Call)
        assert (call.tool, call.rpc_id, call.kind, call.era) == (
            "echo",
            7,
            Kind.REQUEST,
            Era.LEGACY,
        )

    def test_modern_call(self) -> None:
        """A modern tools/call states its version twice and repeats method and name."""
        call = read(post(modern_call(), *modern_headers()))
        assert isinstance(call, Call)
        assert (call.tool, call.era, call.protocol_version) == ("echo", Era.MODERN, MODERN)

    def test_arguments_digest_ignores_key_order_and_space(self) -> None:
        """Equal arguments have equal digests, and the arguments themselves do not travel."""
        one, two = read(with_arguments('{"a":1,"b":2}')), read(with_arguments('{ "b":2, "a" : 1}'))
        assert isinstance(one, Call)
        assert isinstance(two, Call)
        assert one.arguments_digest == two.arguments_digest
        assert one.arguments_digest.startswith("sha256:")
        assert one.arguments_digest != read(with_arguments('{"a":2,"b":1}')).arguments_digest  # type: ignore[union-attr]

    @pytest.mark.parametrize(
        "body",
        [
            {"jsonrpc": "2.0", "id": 0, "method": "tools/list"},
            {"jsonrpc": "2.0", "id": "server-discover-probe-1", "method": "ping"},
            {"jsonrpc": "2.0", "id": 2**53 - 1, "method": "ping", "params": {}},
            {"jsonrpc": "2.0", "method": "notifications/initialized"},
            {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"x": [1.5, None]}},
            legacy_call(extra={"vendor": True}),
            legacy_call("tool with space"),
        ],
    )
    def test_ordinary_messages(self, body: dict[str, object]) -> None:
        """What servers agree on passes, whatever the method."""
        assert isinstance(read(post(body)), Call)

    @pytest.mark.parametrize("member", ["result", "error"])
    def test_responses(self, member: str) -> None:
        """A client may answer a server's own request (legacy)."""
        call = read(post({"jsonrpc": "2.0", "id": 1, member: {}}))
        assert isinstance(call, Call)
        assert call.kind is Kind.RESPONSE

    @pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE", "OPTIONS"])
    def test_without_body(self, method: str) -> None:
        """Methods without a body are decided by method, a Content-Type notwithstanding."""
        call = read(Request(method, "/mcp", (("content-type", b"application/json"),)))
        assert isinstance(call, Call)
        assert call.kind is Kind.NONE

    @pytest.mark.parametrize(
        "content_type",
        ["application/json", "Application/JSON; charset=utf-8", 'application/json;charset="UTF-8"'],
    )
    def test_content_types(self, content_type: str) -> None:
        """application/json in UTF-8 passes however it is spelled."""
        body = json.dumps(legacy_call()).encode()
        request = Request("POST", "/", (("content-type", content_type.encode()),), body)
        assert isinstance(read(request), Call)

    def test_encoded_name_header(self) -> None:
        """A tool name outside ASCII comes in the header's base64 form."""
        headers = modern_headers("=?base64?dMOpc3QgdG9vbA==?=")
        assert isinstance(read(post(modern_call("tést tool"), *headers)), Call)

    def test_modern_notification_needs_no_method_header(self) -> None:
        """The TypeScript client sends Mcp-Method with requests only."""
        body = {
            "jsonrpc": "2.0",
            "method": "notifications/cancelled",
            "params": {"_meta": {VERSION_KEY: MODERN}},
        }
        assert isinstance(read(post(body, ("mcp-protocol-version", MODERN))), Call)

    def test_depth_at_the_limit(self) -> None:
        """Depth 64 passes: the envelope and params take two."""
        levels = MAX_DEPTH - 2
        assert isinstance(read(with_arguments('{"a":' * levels + "1" + "}" * levels)), Call)

    def test_brackets_in_strings_are_no_depth(self) -> None:
        """Only structure nests; text may hold any brackets and long digits."""
        text = json.dumps({"t": "[{" * 500 + "9" * 500 + "e999"})
        assert isinstance(read(with_arguments(text)), Call)


REFUSED = [
    # duplicate keys
    (raw('{"jsonrpc":"2.0","id":1,"method":"ping","method":"tools/call"}'), "duplicate_key"),
    (raw('{"jsonrpc":"2.0","id":1,"method":"ping","\\u006dethod":"tools/call"}'), "duplicate_key"),
    (with_arguments('{"a":{"b":[{"c":1,"c":1}]}}'), "duplicate_key"),
    (with_arguments('{"a":1,"\\u0061":2}'), "duplicate_key"),
    # keys in another case
    (raw('{"jsonrpc":"2.0","id":1,"Method":"tools/call","method":"ping"}'), "ambiguous_key_case"),
    (raw('{"jsonrpc":"2.0","id":1,"method":"ping","Params":{}}'), "ambiguous_key_case"),
    (post(legacy_call(params={"name": "a", "NAME": "b"})), "ambiguous_key_case"),
    (post(legacy_call(params={"name": "a", "argument\u017f": {}})), "ambiguous_key_case"),
    (raw('{"jsonrpc":"2.0","id":1,"method":"ping","param\u017f":{}}'), "ambiguous_key_case"),
    (post(legacy_call(params={"name": "a", "_META": {}})), "ambiguous_key_case"),
    (
        post(legacy_call(params={"name": "a", "_meta": {VERSION_KEY.upper(): MODERN}})),
        "ambiguous_key_case",
    ),
    # batches
    (post([legacy_call()]), "batch_not_supported"),
    (post([]), "batch_not_supported"),
    (post([legacy_call()], ("mcp-protocol-version", "2025-03-26")), "batch_not_supported"),
    # encodings
    (post(json.dumps(legacy_call()).encode("utf-16")), "invalid_encoding"),
    (post(json.dumps(legacy_call()).encode("utf-16-le")), "invalid_encoding"),
    (post(json.dumps(legacy_call()).encode("utf-32")), "invalid_encoding"),
    (post(json.dumps(legacy_call()).encode("utf-32-be")), "invalid_encoding"),
    (post(b"\xef\xbb\xbf" + json.dumps(legacy_call()).encode()), "invalid_encoding"),
    (with_arguments('{"a":"\ud800"}'), "invalid_encoding"),
    (with_arguments('{"a":"\\ud800"}'), "invalid_encoding"),
    (with_arguments('{"a":"\\udc00"}'), "invalid_encoding"),
    (with_arguments('{"a":"\\ud83d x"}'), "invalid_encoding"),
    (post(b'{"jsonrpc":"2.0","id":1,"method":"\xff"}'), "invalid_encoding"),
    (post(b'{"jsonrpc":"2.0","id":1,"method":"\xc0\xaf"}'), "invalid_encoding"),
    # numbers
    (with_arguments('{"a":NaN}'), "number_out_of_range"),
    (with_arguments('{"a":[Infinity]}'), "number_out_of_range"),
    (with_arguments('{"a":-Infinity}'), "number_out_of_range"),
    (with_arguments('{"a":1e999}'), "number_out_of_range"),
    (with_arguments('{"a":-1E+0999}'), "number_out_of_range"),
    (with_arguments('{"a":' + "9" * 5000 + "}"), "number_out_of_range"),
    (with_arguments('{"a":0.' + "3" * 5000 + "}"), "number_out_of_range"),
    # depth
    (with_arguments('{"a":' * 500 + "1" + "}" * 500), "nesting_too_deep"),
    (with_arguments('{"a":' + "[" * 100 + "]" * 100 + "}"), "nesting_too_deep"),
    (with_arguments('{"a":' * (MAX_DEPTH - 1) + "1" + "}" * (MAX_DEPTH - 1)), "nesting_too_deep"),
    # as many objects and lists as to stall the gate
    (with_arguments('{"a":[' + "[]," * 100_000 + "[]]}"), "too_many_containers"),
    (post(b"[" * 4_000_000), "too_many_containers"),
    # as many members as to stall it
    (with_arguments(numbered(411_000)), "too_many_members"),
    (with_arguments(numbered(LIMITS.members)), "too_many_members"),
    (with_arguments('{"a":[' + "1," * LIMITS.elements + "1]}"), "too_many_members"),
    (with_arguments('{"a":[' + '"[",' * 1_000_000 + "1]}"), "too_many_members"),
    (with_arguments('{"a":[' + '",",' * 1_000_000 + "1]}"), "too_many_members"),
    (with_arguments('{"a":[' + "1e300," * 600_000 + "1]}"), "too_many_members"),
    (post(b'{"a":"' + b'["' * 2_000_000), "too_many_members"),
    # what is nearly the one method that is decided, or nearly a tool's name
    *(
        (post(legacy_call(method=bad)), "ambiguous_method")
        for bad in ("Tools/Call", "tools/call ", "tools/call\0", "TOOL\u017f/call", "call_tool/")
    ),
    (post(legacy_call(method="tools/call" + " " * 1024)), "invalid_envelope"),
    *(
        (post(legacy_call(params={"name": bad})), "ambiguous_tool_name")
        for bad in (" refund", "refund ", "refund\0", "re\tfund", "refund\u200b", "\u202erefund")
    ),
    # ids
    *(
        (post(legacy_call(id=bad)), "invalid_request_id")
        for bad in (1.0, True, False, None, [], {}, 2**53, -(2**53))
    ),
    (raw('{"jsonrpc":"2.0","id":1e2,"method":"ping"}'), "invalid_request_id"),
    (post(legacy_call(id="x" * 1025)), "invalid_request_id"),
    (
        post({"jsonrpc": "2.0", "method": "tools/call", "params": {"name": "a"}}),
        "invalid_request_id",
    ),
    (post({"jsonrpc": "2.0", "result": {}}), "invalid_request_id"),
    # several messages in one
    (post(legacy_call(result={})), "ambiguous_message"),
    (post(legacy_call(error={})), "ambiguous_message"),
    (post({"jsonrpc": "2.0", "id": 1, "result": {}, "error": {}}), "ambiguous_message"),
    # the envelope
    (post(b'"text"'), "invalid_envelope"),
    (post(b"1"), "invalid_envelope"),
    (post({"id": 1, "method": "ping"}), "invalid_envelope"),
    (post({"jsonrpc": 2.0, "id": 1, "method": "ping"}), "invalid_envelope"),
    (post({"jsonrpc": "2.0", "id": 1}), "invalid_envelope"),
    (post({"jsonrpc": "2.0", "id": 1, "method": ""}), "invalid_envelope"),
    (post({"jsonrpc": "2.0", "id": 1, "method": ["ping"]}), "invalid_envelope"),
    # params
    *((post(legacy_call(params=bad)), "invalid_params") for bad in ([], None, "x", 1)),
    *((post(legacy_call(params={"name": bad})), "invalid_params") for bad in (None, 1, [], "")),
    (post(legacy_call(params={})), "invalid_params"),
    *(
        (post(legacy_call(params={"name": "a", "arguments": bad})), "invalid_params")
        for bad in (None, [], "x")
    ),
    (post(legacy_call(params={"name": "a", "_meta": []})), "invalid_params"),
    (post(legacy_call(), *modern_headers()), "invalid_params"),
    # not one JSON document
    (post(b""), "malformed_json"),
    (post(b"{"), "malformed_json"),
    (post(b"{}{}"), "malformed_json"),
    (post(json.dumps(legacy_call()).encode() + b"\x0b"), "malformed_json"),
    (post(b"{'jsonrpc':'2.0'}"), "malformed_json"),
    (with_arguments('{"a":01}'), "malformed_json"),
    (with_arguments('{"a":1,}'), "malformed_json"),
    (with_arguments("{} /* x */"), "malformed_json"),
    # eras that disagree
    (post(modern_call()), "header_mismatch"),
    (post(modern_call(), ("mcp-protocol-version", LEGACY)), "header_mismatch"),
    (post(modern_call(), ("mcp-protocol-version", MODERN)), "header_mismatch"),
    (post(modern_call(), *modern_headers(method="tools/list")), "header_mismatch"),
    (post(modern_call("refund"), *modern_headers("echo")), "header_mismatch"),
    (post(modern_call(), *modern_headers("=?base64?ZWNobw?=")), "header_mismatch"),
    (post(modern_call(), *modern_headers()[:2]), "header_mismatch"),
    (post(legacy_call(), ("mcp-method", "tools/list")), "header_mismatch"),
    (post(legacy_call(), ("mcp-name", "other")), "header_mismatch"),
    (
        post({"jsonrpc": "2.0", "id": 1, "result": {}}, ("mcp-protocol-version", MODERN)),
        "header_mismatch",
    ),
    # versions
    (post(legacy_call(), ("mcp-protocol-version", "2099-01-01")), "unsupported_protocol_version"),
    (post(legacy_call(), ("mcp-protocol-version", "")), "unsupported_protocol_version"),
    (
        Request("GET", "/", (("mcp-protocol-version", b"1"),)),
        "unsupported_protocol_version",
    ),
    # media types
    *(
        (Request("POST", "/", headers, json.dumps(legacy_call()).encode()), reason)
        for headers, reason in [
            ((), "unsupported_media_type"),
            ((("content-type", b"text/plain"),), "unsupported_media_type"),
            ((("content-type", b"application/json; charset=utf-16"),), "unsupported_media_type"),
            ((("content-type", b"application/json, text/plain"),), "duplicate_header"),
            (
                (("content-type", b"application/json"), ("content-encoding", b"gzip")),
                "unsupported_media_type",
            ),
            (
                (("content-type", b"application/json"), ("content-type", b"application/json")),
                "duplicate_header",
            ),
        ]
    ),
    # headers twice, and headers that are no text
    (post(legacy_call(), ("authorization", "a"), ("authorization", "a")), "duplicate_header"),
    (post(legacy_call(), ("authorization", "Bearer a,Bearer b")), "duplicate_header"),
    (post(legacy_call(), ("content-encoding", "gzip, identity")), "duplicate_header"),
    (post(legacy_call(), ("mcp-name", "echo"), ("mcp-name", "echo")), "duplicate_header"),
    (post(legacy_call(), ("mcp-param-x", "1"), ("mcp-param-x", "2")), "duplicate_header"),
    (post(legacy_call(), ("x-mcp-agent-id", "a"), ("x-mcp-agent-id", "b")), "duplicate_header"),
    (
        Request("POST", "/", (("x-mcp-agent-id", b"\xff"),), b"{}"),
        "invalid_header",
    ),
    # HTTP methods
    (Request("PUT", "/", (), b"{}"), "http_method_not_allowed"),
    (Request("PATCH", "/"), "http_method_not_allowed"),
    (Request("post", "/"), "http_method_not_allowed"),
    (Request("GET", "/", (), json.dumps(legacy_call()).encode()), "unexpected_body"),
]


@pytest.mark.parametrize(("request_", "reason"), REFUSED)
def test_refused(request_: Request, reason: str) -> None:
    """Any doubt is a refusal with the reason of its row."""
    assert read(request_) == Reason(reason)


def test_every_reason_of_row_1_is_tested() -> None:
    """No reason of the strict parse goes without a test."""
    from extauthz.core.table import TABLE

    assert {reason for _, reason in REFUSED} == {reason.value for reason in TABLE[0].reasons}


@pytest.mark.parametrize(
    "params", [[], {}, {"name": "a", "arguments": []}, {"name": "a", "_meta": 1}]
)
def test_invalid_params_keep_what_was_read(params: object) -> None:
    """The id and the method, so that the answer finds its request."""
    refusal = read_call(post(legacy_call(id="x", params=params)), JSON)
    assert isinstance(refusal, Refusal)
    assert (refusal.call.rpc_id, refusal.call.method) == ("x", "tools/call")
    assert refusal.call.kind is Kind.REQUEST


def test_a_later_modern_revision_negotiates_among_the_modern_ones() -> None:
    """A body that states its revision cannot go back to a revision that does not."""
    call = modern_call()
    call["params"]["_meta"][VERSION_KEY] = "2031-01-01"
    headers = JSON | {"mcp-protocol-version": "2031-01-01"}
    refusal = read_call(post(call), headers)
    assert isinstance(refusal, Refusal)
    assert refusal.reason is Reason.UNSUPPORTED_PROTOCOL_VERSION
    assert refusal.call.era is Era.MODERN
    legacy = read_call(post(legacy_call()), headers)
    assert isinstance(legacy, Refusal)
    assert legacy.call.era is Era.LEGACY


@pytest.mark.parametrize(("request_", "_reason"), REFUSED)
def test_refusal_never_quotes_the_body(request_: Request, _reason: str) -> None:
    """A refusal's words go to logs and callers; arguments may be secret."""
    try:
        call = read_call(request_, read_headers(request_.headers, DEFAULT_WATCHED))
    except Doubtful as refused:
        assert SECRET not in refused.detail
    else:
        assert isinstance(call, Refusal)
        assert SECRET not in call.detail


def test_depth_is_found_without_recursion() -> None:
    """However deep and wide a body is, up to the bound of containers."""
    assert read(post(b"[" * 99_000)) is Reason.NESTING_TOO_DEEP
    wide = read(with_arguments('{"a":[' + "[]," * 49_000 + "[]]}"))
    assert isinstance(wide, Call)


def test_brackets_in_strings_open_nothing() -> None:
    """Text full of brackets, such as source code, passes; alone it is no message."""
    call = read(with_arguments(json.dumps({"text": "{[" * 200_000})))
    assert isinstance(call, Call)
    assert read(post(b'"' + b"[" * 200_000 + b'"')) is Reason.INVALID_ENVELOPE


def test_megabytes_of_quotes_that_never_close_are_refused_in_one_pass() -> None:
    """Why a body is no JSON is found in one pass: quotes do not make it start over."""
    for body in (rb'{"a":"' + rb"\"" * 2_000_000, b'"' + b"\\" * 4_000_000, rb'"\ ' * 900_000):
        assert read(post(body)) is Reason.MALFORMED_JSON
    quotes = b"[" + rb'"\"",' * 49_000
    assert read(post(quotes + b"NaN]")) is Reason.NUMBER_OUT_OF_RANGE
    assert read(post(quotes + b'"NaN]')) is Reason.MALFORMED_JSON
