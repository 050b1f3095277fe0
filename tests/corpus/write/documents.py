"""The document: how it is encoded, what stands around it, how deep and how large it is."""

import gzip
import zlib
from collections.abc import Callable, Iterator

from tests.corpus.case import Case
from tests.corpus.write.shape import CALL, ECHO, both, swap, text

ARGUMENTS = '"arguments":{}'


def _as(codec: str, mark: bytes = b"") -> Callable[[str], bytes]:
    return lambda era: mark + text(era).encode(codec)


def _bytes(old: bytes, new: bytes) -> Callable[[str], bytes]:
    return lambda era: text(era).encode().replace(old, new, 1)


def encodings() -> Iterator[Case]:
    """Strict UTF-8 without a mark (RFC 8259, section 8.1)."""
    codecs = {
        "utf-16-le": _as("utf-16-le"),
        "utf-16-be": _as("utf-16-be"),
        "utf-16-le-bom": _as("utf-16-le", b"\xff\xfe"),
        "utf-16-be-bom": _as("utf-16-be", b"\xfe\xff"),
        "utf-32-le": _as("utf-32-le"),
        "utf-32-be": _as("utf-32-be"),
        "utf-32-le-bom": _as("utf-32-le", b"\xff\xfe\x00\x00"),
        "utf-32-be-bom": _as("utf-32-be", b"\x00\x00\xfe\xff"),
        "utf-8-bom": _as("utf-8", b"\xef\xbb\xbf"),
        "utf-8-two-boms": _as("utf-8", b"\xef\xbb\xbf" * 2),
        "utf-7-plus": _bytes(b'"arguments"', b'+ACI-arguments"'),
        "latin-1": _bytes(b"{}", b'{"text":"caf\xe9"}'),
        "overlong-slash": _bytes(b"tools/call", b"tools\xc0\xafcall"),
        "overlong-nul": _bytes(b"refund", b"refund\xc0\x80"),
        "surrogate-bytes": _bytes(b"refund", b"refund\xed\xa0\x80"),
        "cesu-8": _bytes(b"{}", b'{"text":"\xed\xa0\xbd\xed\xb8\x80"}'),
        "beyond-unicode": _bytes(b"refund", b"refund\xf4\x90\x80\x80"),
        "cut-sequence": _bytes(b"refund", b"refund\xe2\x82"),
        "lone-continuation": _bytes(b"refund", b"\x80refund"),
        "bad-byte-in-key": _bytes(b'"method"', b'"method\xff"'),
        "bad-byte-in-argument": _bytes(b"{}", b'{"text":"\xff"}'),
        "high-surrogate": _bytes(b"refund", b"refund\\ud800"),
        "low-surrogate": _bytes(b"refund", b"refund\\udc00"),
        "swapped-surrogates": _bytes(b"{}", b'{"text":"\\ude00\\ud83d"}'),
        "surrogate-in-key": _bytes(b"{}", b'{"\\ud800":1}'),
        "surrogate-then-text": _bytes(b"{}", b'{"text":"\\ud800\\u0041"}'),
        "nul-before": lambda era: b"\x00" + text(era).encode(),
        "nul-after": lambda era: text(era).encode() + b"\x00",
    }
    malformed = {"utf-7-plus"}
    for name, body in codecs.items():
        reason = "malformed_json" if name in malformed else "invalid_encoding"
        yield from both(f"encoding.{name}", "some servers decode it", body, reason)
    for name, part in {
        "raw-nul": b"ref\x00und",
        "raw-control": b"ref\x01und",
        "raw-newline": b"ref\nund",
        "raw-tab": b"ref\tund",
        "escape-x": b"\\x72efund",
        "escape-octal": b"\\162efund",
        "escape-quote": b"refund\\'",
        "escape-short": b"refund\\u00",
        "escape-brace": b"\\u{72}efund",
    }.items():
        reason = {"raw-nul": "invalid_encoding"}.get(name, "malformed_json")
        body = _bytes(b'"refund"', b'"' + part + b'"')
        yield from both(f"encoding.{name}", "lenient readers take it", body, reason)


def documents() -> Iterator[Case]:
    """One document, in JSON's grammar, and nothing else."""
    bent = {
        "two": ECHO + CALL,
        "two-lines": ECHO + "\n" + CALL + "\n",
        "empty-first": "{}" + CALL,
        "null-first": "null " + CALL,
        "batch-after": ECHO + "[" + CALL + "]",
        "trailing-text": CALL + "x",
        "trailing-brace": CALL + "}",
        "trailing-comma": CALL + ",",
        "comma-in-object": swap(CALL, "}}", "},}"),
        "comma-in-arguments": swap(CALL, ARGUMENTS, '"arguments":{"a":1,}'),
        "line-comment": "// call\n" + CALL,
        "block-comment": swap(CALL, '"id"', '/*"*/"id"'),
        "comment-hides": swap(CALL, '"method"', '/*"method":"ping",*/"method"'),
        "hash-comment": "# call\n" + CALL,
        "single-quotes": CALL.replace('"', "'"),
        "bare-names": CALL.replace('"method"', "method"),
        "record-separator": "\x1e" + CALL,
        "xssi-prefix": ")]}',\n" + CALL,
        "event-stream": "data: " + CALL + "\n\n",
        "form": "body=" + CALL,
        "form-feed": "\f" + CALL,
        "vertical-tab": "\v" + CALL,
        "no-break-space": "\u00a0" + CALL,
        "line-separator": CALL + "\u2028",
        "unclosed": CALL[:-1],
        "unclosed-text": CALL[: CALL.index("refund") + 3],
        "empty": "",
        "spaces": " \r\n\t ",
        "parenthesised": f"({CALL})",
        "semicolon": CALL + ";",
        "equals": CALL.replace('"id":', '"id"='),
        "true-capital": swap(CALL, ARGUMENTS, '"arguments":{"a":True}'),
        "undefined": swap(CALL, ARGUMENTS, '"arguments":{"a":undefined}'),
        "multipart": f"--x\r\nContent-Type: application/json\r\n\r\n{CALL}\r\n--x--",
    }
    for name, template in bent.items():
        yield from both(
            f"document.{name}", "a lenient reader finds refund", template, "malformed_json"
        )


def numbers() -> Iterator[Case]:
    """What no double holds, and what is no number in JSON."""
    out = [
        "NaN",
        "Infinity",
        "-Infinity",
        "1e999",
        "-1e999",
        "1E400",
        "9" * 5000,
        "0." + "1" * 5000,
    ]
    out += ["-" + "9" * 101, "1" + "0" * 400, "1e0000000000000000000000999", "123456789e308"]
    for number, value in enumerate(out):
        nested = swap(CALL, ARGUMENTS, f'"arguments":{{"a":[{value}]}}')
        yield from both(f"number.{number}", "held differently", nested, "number_out_of_range")
    bad = ["01", "+1", ".5", "1.", "0x10", "1_000", "-", "--1", "1e", "1e+", "٣", "inf", "1n"]
    for number, value in enumerate(bad):
        nested = swap(CALL, ARGUMENTS, f'"arguments":{{"a":{value}}}')
        yield from both(f"number.bad-{number}", "no JSON number", nested, "malformed_json")
    for name, value in {"infinite": "1e999", "nan": "NaN"}.items():
        bent = swap(CALL, '"id":1', f'"id":{value}')
        yield from both(f"number.id-{name}", "an id beyond doubles", bent, "number_out_of_range")


def depths() -> Iterator[Case]:
    """Nesting ends readers' stacks at different depths."""
    for depth in (64, 100, 500, 2000):
        for name, (up, down) in {
            "objects": ('{"a":', "}"),
            "lists": ("[", "]"),
            "mixed": ('[{"a":', "}]"),
        }.items():
            deep = up * depth + "1" + down * depth
            nested = swap(CALL, ARGUMENTS, f'"arguments":{{"a":{deep}}}')
            why = "servers run it, or fall over"
            yield from both(f"depth.{name}-{depth}", why, nested, "nesting_too_deep")
    deep = "[" * 70 + "]" * 70
    meta = CALL.replace("@", f',"_meta":{{"a":{deep}}}')
    yield from both("depth.meta", "outside arguments too", meta, "nesting_too_deep")
    envelope = swap(CALL, '"id":1', f'"id":1,"a":{deep}')
    yield from both("depth.envelope", "outside params too", envelope, "nesting_too_deep")
    hidden = swap(CALL, ARGUMENTS, f'"arguments":{{"a":"\\\\","b":{deep}}}')
    yield from both("depth.after-backslash", "a string's end is found", hidden, "nesting_too_deep")
    yield from both("depth.unclosed", "a stack of readers", "[" * 20_000, "nesting_too_deep")


def batches() -> Iterator[Case]:
    """Batches: some servers run every element (2025-03-26 had them)."""
    note = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
    bent = {
        "one": f"[{CALL}]",
        "echo-then-refund": f"[{ECHO},{CALL.replace(':1', ':2', 1)}]",
        "after-a-note": f"[{note},{CALL}]",
        "nested": f"[[{CALL}]]",
        "empty": "[]",
        "spaces": f" \n[ {CALL} ]",
        "same-id": f"[{ECHO},{CALL}]",
    }
    for name, template in bent.items():
        yield from both(f"batch.{name}", "some run each", template, "batch_not_supported")
    for version in ("2024-11-05", "2025-03-26", "2025-06-18", None):
        yield from both(
            f"batch.in-{version or 'no-revision'}",
            "refused in every revision",
            f"[{ECHO},{CALL}]",
            "batch_not_supported",
            {"MCP-Protocol-Version": version},
            eras=["legacy"],
        )


def media_types() -> Iterator[Case]:
    """One application/json in UTF-8, not encoded."""
    kinds = [None, "", "text/plain", "text/json", "application/json-rpc", "application/jsonp"]
    kinds += ["application/json; charset=utf-16", "application/json; charset=latin1", "*/*"]
    kinds += ["application/json; charset=utf-8; charset=utf-16", "application/json; charset=utf-7"]
    kinds += ["application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "json"]
    kinds += ["application/json; version=1", "application/vnd.api+json", "application/ json"]
    kinds += [
        "application/json;",
        "application/json; charset='utf-8'",
        "text/plain; application/json",
    ]
    reason = "unsupported_media_type"
    for number, kind in enumerate(kinds):
        why = f"servers that do not look run it ({kind})"
        yield from both(f"media.{number}", why, CALL, reason, {"Content-Type": kind})
    for name, value in {
        "joined": "application/json, text/plain",
        "same": "application/json, application/json",
    }.items():
        change = {"Content-Type": value}
        yield from both(f"media.{name}", "two, joined", CALL, "duplicate_header", change)
    wide = {"Content-Type": "application/json; charset=utf-16"}
    yield from both("media.charset", "read as its charset says", _as("utf-16-le"), reason, wide)

    def packed(pack: Callable[[bytes], bytes]) -> Callable[[str], bytes]:
        return lambda era: pack(text(era).encode())

    codings = {
        "gzip": ("gzip", packed(lambda raw: gzip.compress(raw, mtime=0))),
        "gzip-upper": ("GZIP", packed(lambda raw: gzip.compress(raw, mtime=0))),
        "x-gzip": ("x-gzip", packed(lambda raw: gzip.compress(raw, mtime=0))),
        "deflate": ("deflate", packed(zlib.compress)),
        "br": ("br", _as("utf-8")),
        "said-gzip": ("gzip", _as("utf-8")),
        "empty": ("", _as("utf-8")),
        "chunked": ("chunked", _as("utf-8")),
    }
    for name, (coding, body) in codings.items():
        yield from both(
            f"coding.{name}", "some inflate", body, reason, {"Content-Encoding": coding}
        )
    silent = packed(lambda raw: gzip.compress(raw, mtime=0))
    yield from both("coding.unsaid", "gzip, unsaid", silent, "invalid_encoding")
    twice = {"Content-Encoding": "identity, gzip"}
    yield from both("coding.joined", "some inflate", codings["gzip"][1], "duplicate_header", twice)
