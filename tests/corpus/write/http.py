"""HTTP itself: framing, methods and paths."""

from collections.abc import Iterator

from tests.corpus.case import PASSES, Case
from tests.corpus.write.shape import ECHO, ERAS, Headers, head, text

DENIED, MALFORMED = "tool_not_granted", "400 malformed_http"
DROP: Headers = {"Content-Length": None}


def framing() -> Iterator[Case]:
    """Where the body ends, and with it the request (RFC 9112, sections 6 and 7)."""
    for era in ERAS:
        raw = text(era).encode()
        echo = text(era, ECHO).encode()
        size = f"{len(raw):x}".encode()
        chunked = size + b"\r\n" + raw + b"\r\n0\r\n\r\n"
        te: Headers = {**DROP, "Transfer-Encoding": "chunked"}
        end = b"0\r\n\r\n"

        def case(
            name: str,
            why: str,
            changes: Headers,
            body: bytes,
            *expect: str,
            era: str = era,
            raw: bytes = raw,
            line: str = "POST /mcp HTTP/1.1",
        ) -> Case:
            top = head(era, raw, changes, line=line)
            return Case(
                f"framing.{name}.{era}", why, top, body, expect or (MALFORMED,), alone=False
            )

        yield case("both", "CL.TE", {"Transfer-Encoding": "chunked"}, chunked)
        yield case(
            "both-zero", "CL.TE", {"Content-Length": "0", "Transfer-Encoding": "chunked"}, chunked
        )
        yield case("te-first", "TE.CL", {**te, "content-length": "4"}, chunked)
        yield case(
            "te-twice",
            "coded twice, or once?",
            {**DROP, "Transfer-Encoding": ["chunked"] * 2},
            chunked,
            "501 encoding_refused",
        )
        for name, value in {
            "unknown": "xchunked",
            "identity": "chunked, identity",
            "gzip": "gzip, chunked",
            "case": "chunKed, chunked",
            "quoted": '"chunked"',
            "semicolon": "chunked;q=1",
        }.items():
            yield case(
                f"te-{name}",
                "TE that some overlook",
                {**DROP, "Transfer-Encoding": value},
                chunked,
                "501 encoding_refused",
            )
        yield case(
            "te-vertical-tab", "some trim it", {**DROP, "Transfer-Encoding": "\x0bchunked"}, chunked
        )
        yield case(
            "te-name-space", "some trim it", {**DROP, "Transfer-Encoding ": "chunked"}, chunked
        )
        yield case(
            "te-folded",
            "Envoy unfolds it before it is decided",
            {**DROP, "Transfer-Encoding": "\r\n chunked"},
            chunked,
            DENIED,
        )
        for name, value in {
            "plus": f"+{len(raw)}",
            "minus": "-1",
            "hex": f"0x{len(raw):x}",
            "list": f"{len(raw)}, 0",
            "huge": "9" * 30,
            "text": "ten",
            "space": f"{len(raw)} 0",
            "empty": "",
        }.items():
            yield case(f"length-{name}", "read as another length", {"Content-Length": value}, raw)
        yield case(
            "length-twice", "which of the two?", {"Content-Length": [str(len(raw)), "0"]}, raw
        )
        for name, body in {
            "hex-prefix": b"0x" + chunked,
            "minus": b"-" + chunked,
            "overflow": b"10000000000000000" + chunked,
            "no-size": b"\r\n" + raw + b"\r\n" + end,
            "underscore": b"1_0\r\n" + raw + b"\r\n" + end,
            "no-line-end": size + b"\r\n" + raw + end,
            "space-before": b" " + chunked,
        }.items():
            yield case(f"chunk-{name}", "chunks that some read otherwise", te, body)
        for name, body in {
            "whole": chunked,
            "extension": chunked.replace(b"\r\n", b';a="b"\r\n', 1),
            "zeros": b"000" + chunked,
            "split": b"".join(b"1\r\n%c\r\n" % byte for byte in raw) + end,
        }.items():
            yield case(f"chunk-{name}", "well-formed: decided like any call", te, body, DENIED)
        short = b"5\r\n" + raw + b"\r\n" + end
        why = "Envoy drops the rest of the chunk before it is decided"
        yield case("chunk-too-short", why, te, short, "malformed_json")
        trailer = chunked[:-2] + b"X-MCP-Agent-ID: admin\r\n\r\n"
        yield case("trailer-identity", "an identity after the body", te, trailer, DENIED)
        second = head(era, raw) + raw
        echo_head = head(era, echo, tool="echo")
        yield Case(
            f"framing.pipelined.{era}",
            "each request on a connection is decided",
            echo_head,
            echo + second,
            (PASSES, DENIED),
            alone=False,
        )
        yield Case(
            f"framing.after-empty-chunk.{era}",
            "what follows the last chunk is another request",
            head(era, b"", {**te}, tool="echo"),
            f"{len(echo):x}".encode() + b"\r\n" + echo + b"\r\n" + end + second,
            (PASSES, DENIED),
            alone=False,
        )
        yield Case(
            f"framing.trailing.{era}",
            "bytes after the body are no request",
            echo_head,
            echo + raw + b"\r\n\r\n",
            (PASSES, MALFORMED),
            alone=False,
        )
        bare = {"X-A": "b\nX-MCP-Agent-ID: admin"}
        why = "a line that ends in LF alone is a line"
        yield case("bare-lf", why, bare, raw, "duplicate_header")
        yield case("no-name", "a header without a name", {"": "x"}, raw)
        yield case("no-colon", "a header without a colon", {"X-A\r\nX-B": "x"}, raw)
        yield case(
            "http-1.0",
            "no host, no chunks",
            {},
            raw,
            "426 http_1_0_refused",
            line="POST /mcp HTTP/1.0",
        )
        for name, (line, expect) in {
            "version": ("POST /mcp HTTP/1.2", "426 http_1_0_refused"),
            "spaces": ("POST  /mcp HTTP/1.1", DENIED),
            "tab": ("POST\t/mcp HTTP/1.1", DENIED),
            "no-version": ("POST /mcp", "426 http_1_0_refused"),
            "control-in-path": ("POST /mcp\x01 HTTP/1.1", MALFORMED),
            "cr-in-path": ("POST /mc\rp HTTP/1.1", MALFORMED),
        }.items():
            why = "a request line that Envoy repairs before it is decided, or refuses"
            yield case(f"line-{name}", why, {}, raw, expect, line=line)
        yield case(
            "upgrade",
            "what follows is no HTTP",
            {"Connection": "Upgrade", "Upgrade": "websocket"},
            raw,
            "403 upgrade_refused",
        )
        yield case(
            "h2c",
            "an offer; the request counts",
            {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMA"},
            raw,
            DENIED,
        )
        yield case(
            "expect", "the body comes all the same", {"Expect": "100-continue"}, raw, "100", DENIED
        )
        yield case(
            "many-headers",
            "more than Envoy counts",
            {f"A{n}": "a" for n in range(120)},
            raw,
            "431 headers_too_large",
        )
        yield case(
            "long-header",
            "longer than Envoy reads",
            {"A": "a" * 70_000},
            raw,
            "431 headers_too_large",
        )


def methods() -> Iterator[Case]:
    """Servers that read a body whatever the method run it."""
    for era in ERAS:
        raw = text(era).encode()

        def case(
            name: str,
            why: str,
            line: str,
            expect: str,
            changes: Headers | None = None,
            *,
            body: bytes = raw,
            era: str = era,
            alone: bool = True,
        ) -> Case:
            top = head(era, body, changes, line=line)
            return Case(f"http-method.{name}.{era}", why, top, body, (expect,), alone=alone)

        with_body = "a body that lenient servers run"
        for method in ("GET", "DELETE", "OPTIONS", "HEAD"):
            expect = "unexpected_body" if method != "HEAD" else "400"
            yield case(method, with_body, f"{method} /mcp HTTP/1.1", expect, alone=method != "HEAD")
        for method in ("PUT", "PATCH"):
            yield case(method, "not MCP's", f"{method} /mcp HTTP/1.1", "http_method_not_allowed")
        for method in ("post", "Post", "CALL", "TRACE1", "PO\x00ST"):
            name = method.replace("\0", "nul")
            yield case(
                f"odd-{name}",
                "some fold the case",
                f"{method} /mcp HTTP/1.1",
                MALFORMED,
                alone=False,
            )
        yield case(
            "CONNECT",
            "a tunnel is no call",
            "CONNECT server.test:80 HTTP/1.1",
            MALFORMED,
            alone=False,
        )
        for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            change: Headers = {name: "POST"}
            yield case(
                f"override-get-{name}", with_body, "GET /mcp HTTP/1.1", "unexpected_body", change
            )
            change = {name: "GET"}
            yield case(f"override-{name}", "still a call", "POST /mcp HTTP/1.1", DENIED, change)


def paths() -> Iterator[Case]:
    """No path is exempt, however it is spelled."""
    targets = [
        "/",
        "//mcp",
        "/mcp/",
        "/mcp/..;/mcp",
        "/mcp;a=b",
        "/mcp?method=tools/list",
        "/x/../mcp",
    ]
    targets += ["/./mcp", "/%6dcp", "/mcp%20", "/mcp?", "/health", "/.well-known/mcp", "/MCP"]
    targets += [
        "/.well-known/oauth-protected-resource",
        "/.well-known/oauth-protected-resource/mcp",
    ]
    targets += [
        "/%2e%2e/mcp",
        "/x/%2e%2e/mcp",
        "/mcp%252f..",
        "http://server.test/mcp",
        "/mcp%3F",
        "/../mcp",
    ]
    for number, target in enumerate(targets):
        for era in ERAS:
            raw = text(era).encode()
            top = head(era, raw, line=f"POST {target} HTTP/1.1")
            why = f"no path is exempt ({target})"
            yield Case(f"path.{number}.{era}", why, top, raw, (DENIED,), alone=target[0] == "/")
    for number, target in enumerate(
        ["/mcp%2f", "/mcp%2F..", "/..%5cmcp", "/mcp%00", "mcp", "/mcp#x"]
    ):
        for era in ERAS:
            raw = text(era).encode()
            top = head(era, raw, line=f"POST {target} HTTP/1.1")
            why = f"servers read this path differently ({target})"
            yield Case(f"path.refused-{number}.{era}", why, top, raw, (MALFORMED,), alone=False)
