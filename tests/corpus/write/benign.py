"""Odd, but read alike by everybody: it must pass byte for byte."""

from collections.abc import Iterator

from tests.corpus.case import Case
from tests.corpus.write.shape import ECHO, ERAS, Headers, head, swap, text

ARGUMENTS, ID = '"arguments":{}', '"id":1'


def messages() -> Iterator[Case]:
    """Bodies, in both eras."""
    inside = {
        "cased-keys": '{"Name":1,"METHOD":2,"name":3,"method":4,"Id":5}',
        "same-key-apart": '{"a":{"k":1},"b":{"k":2},"k":3}',
        "unicode": '{"text":"grüße 😀 \u2028\u2029\ufeff"}',
        "escapes": '{"text":"\\ud83d\\ude00 \\u0000 \\/ \\b\\f\\n\\r\\t \\u00e9"}',
        "delete": '{"text":"\x7f"}',
        "integers": '{"n":[0,-0,9007199254740993,18446744073709551616,-1]}',
        "floats": '{"n":[1.0,1e2,1E+2,1e-2,-0.0,1e308,5e-324,0.1]}',
        "empty-key": '{"":{"":""}}',
        "brackets": '{"text":"' + "[{" * 300 + '"}',
        "digits": '{"text":"' + "9" * 500 + 'e999"}',
        "deep": '{"a":' * 60 + "1" + "}" * 60,
        "wide": "{" + ",".join(f'"k{n}":{n}' for n in range(500)) + "}",
        "json-in-text": '{"text":"{\\"method\\":\\"tools/call\\",\\"method\\":1}"}',
        "prototype": '{"__proto__":{"a":1},"constructor":1}',
        "long-s": '{"param\u017f":1,"\u212aey":2}',
        "space": '{ "a" :\t[ 1 ,\r\n2 ] }',
        "large": '{"text":"' + "x" * 20_000 + '"}',
    }
    templates = {
        name: swap(ECHO, ARGUMENTS, f'"arguments":{each}') for name, each in inside.items()
    }
    templates |= {
        "plain": ECHO,
        "no-arguments": swap(ECHO, f",{ARGUMENTS}", ""),
        "white-space": "\r\n\t " + ECHO.replace(":", " : ") + " \r\n\t",
        "escaped-name": swap(ECHO, '"echo"', '"\\u0065\\u0063ho"'),
        "escaped-key": swap(ECHO, '"method"', '"meth\\u006fd"'),
        "escaped-method": swap(ECHO, "tools/call", "tools\\/call"),
        "unknown-members": swap(ECHO, ID, '"id":1,"trace":{"a":[]},"nam":1,"methods":[]'),
        "other-order": '{"params":{"arguments":{},"name":"echo"@},'
        '"method":"tools/call","id":1,"jsonrpc":"2.0"}',
        "id-text": swap(ECHO, ID, '"id":"ünï"'),
        "id-empty": swap(ECHO, ID, '"id":""'),
        "id-zero": swap(ECHO, ID, '"id":0'),
        "id-least": swap(ECHO, ID, '"id":-9007199254740991'),
        "id-most": swap(ECHO, ID, '"id":9007199254740991'),
        "id-digits": swap(ECHO, ID, '"id":"1e999"'),
    }
    for name, template in templates.items():
        for era in ERAS:
            raw = text(era, template).encode()
            why = "one reading only"
            yield Case(f"benign.{name}.{era}", why, head(era, raw, tool="echo"), raw)
    for name, body in {
        "ping": '{"jsonrpc":"2.0","id":1,"method":"ping"}',
        "notification": '{"jsonrpc":"2.0","method":"notifications/initialized"}',
        "result": '{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"a"}]}}',
        "error": '{"jsonrpc":"2.0","id":"a","error":{"code":-1,"message":"no"}}',
        "result-null": '{"jsonrpc":"2.0","id":1,"result":null}',
        "unknown-method": '{"jsonrpc":"2.0","id":1,"method":"vendor/thing","params":{"a":1}}',
        "list": '{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":"a"}}',
    }.items():
        raw = body.encode()
        yield Case(f"benign.{name}", "no tool call", head("legacy", raw), raw)


def requests() -> Iterator[Case]:
    """Heads and framing, in both eras."""
    for era in ERAS:
        raw = text(era, ECHO).encode()
        name = "=?base64?ZWNobw==?="
        encoded: Headers = {"Mcp-Method": "tools/call", "Mcp-Name": name}
        changed: dict[str, Headers] = {
            "charset": {"Content-Type": 'Application/JSON ; charset="UTF-8"'},
            "identity": {"Content-Encoding": "identity"},
            "encoded-name": encoded,
            "accept-twice": {"Accept": ["application/json", "text/event-stream"]},
            "own-twice": {"X-Own": ["a", "b"], "X-Latin": "caf\xe9", "X-Empty": ""},
            "session": {"Mcp-Session-Id": "AbC-123", "Last-Event-ID": "7"},
            "comma": {"User-Agent": "a, b", "Mcp-Param-Region": "eu, us"},
            "token": {"Authorization": "Bearer abc.def-ghi"},
            "basic": {"Authorization": "Digest a=1, b=2"},
        }
        for each, changes in changed.items():
            yield Case(
                f"benign.{each}.{era}",
                "one reading only",
                head(era, raw, changes, tool="echo"),
                raw,
            )
        for each, target in {
            "query": "/mcp?a=%2e%2e&b=//",
            "colon": "/a:b/mcp;v=1",
            "tilde": "/~a/b%7D",
        }.items():
            top = head(era, raw, tool="echo", line=f"POST {target} HTTP/1.1")
            yield Case(f"benign.path-{each}.{era}", "an ordinary path", top, raw)
        chunks = b"1;a=b\r\n" + raw[:1] + b"\r\n" + f"{len(raw) - 1:X}".encode() + b"\r\n" + raw[1:]
        te: Headers = {"Content-Length": None, "Transfer-Encoding": "chunked"}
        top = head(era, raw, te, tool="echo")
        yield Case(
            f"benign.chunked.{era}",
            "chunks with an extension; the body arrives whole",
            top,
            chunks + b"\r\n0\r\n\r\n",
            alone=False,
            arrives=raw,
        )
    for method in ("GET", "DELETE", "OPTIONS"):
        change: Headers = {"Content-Length": None, "Mcp-Session-Id": "a"}
        yield Case(
            f"benign.{method}",
            "no message",
            head("legacy", b"", change, line=f"{method} /mcp HTTP/1.1"),
        )
