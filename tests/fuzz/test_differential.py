"""Whatever is allowed, every lenient reading agrees on (and what the check itself is worth)."""

import json
from itertools import permutations
from operator import itemgetter

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from extauthz.core import jsonrpc
from extauthz.core.decide import Snapshot
from extauthz.core.reasons import Reason
from extauthz.core.strictjson import Doubtful
from tests.corpus.case import corpus_policy, load
from tests.fuzz.invariants import build_request, check
from tests.fuzz.readings import tool_calls

EXAMPLES = 1_500
SNAPSHOT = Snapshot.of(corpus_policy())
VERSION = "io.modelcontextprotocol/protocolVersion"
LONG_S = "\u017f"


# JSON text, as a writer may spell it: names in case variants, escaped, repeated, in any order.
def joined(pairs: list[tuple[str, str]]) -> str:
    """An object."""
    return "{" + ",".join(f"{key}:{value}" for key, value in pairs) + "}"


@st.composite
def name(draw: st.DrawFn, plain: str) -> str:
    """A member's name: mostly as it is, else escaped, in another case or folding to it."""
    escaped = f"\\u{ord(plain[0]):04x}{plain[1:]}"
    others = [escaped, plain.title(), plain.upper(), plain.replace("s", LONG_S)]
    return f'"{draw(st.sampled_from([plain] * 240 + others))}"'


tools = st.sampled_from(['"echo"'] * 20 + ['"refund"', '"ech\\u006f"', '"ECHO"', "null", '"echo "'])
methods = st.sampled_from(
    ['"tools/call"'] * 20 + ['"ping"', '"tools\\/call"', '"call_tool"', '"Tools/Call"', '"vendor"']
)
ids = st.sampled_from(["1"] * 20 + ['"a"', "null", "1.0", "9007199254740993"])
scalars = st.sampled_from(
    [
        "1",
        "-0.0",
        "0.1",
        "1e2",
        "12345678901234567890",
        '"a"',
        "null",
        '"\\ud83d\\ude00"',
        "1e999",
        '"\\ud800"',
    ]
)
keys = st.sampled_from(['"text"'] * 9 + ['"TEXT"', '"te\\u0078t"', '"name"', '"Method"', '""'])
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda each: f"[{','.join(each)}]"),
        st.lists(st.tuples(keys, inner), max_size=3, unique_by=itemgetter(0)).map(joined),
    ),
    max_leaves=5,
)


@st.composite
def members(draw: st.DrawFn, wanted: dict[str, st.SearchStrategy[str]]) -> str:
    """An object of these members in any order; now and then one is missing, or stands twice."""
    keys = list(draw(st.sampled_from(list(permutations(wanted)))))
    bend = draw(st.sampled_from([0] * 40 + [1, 2]))
    if bend == 1:
        keys.append(draw(st.sampled_from(keys)))
    if bend == 2:
        keys.pop()
    return joined([(draw(name(key)), draw(wanted[key])) for key in keys])


versions = st.sampled_from(['"2026-07-28"'] * 6 + ['"2025-11-25"'])
metas = st.one_of(st.just("{}"), members({VERSION: versions}))
arguments = st.lists(st.tuples(keys, values), max_size=2, unique_by=itemgetter(0)).map(joined)
params = members({"name": tools, "arguments": arguments, "_meta": metas})
messages = members({"jsonrpc": st.just('"2.0"'), "id": ids, "method": methods, "params": params})
# One message, or two: in a batch, or one after the other.
TWO = ("[{},{}]", "{}{}", "{}\n{}", "{} \0{}", "{}x{}")
bodies = st.sampled_from(["{}"] * 30 + list(TWO)).flatmap(
    lambda form: st.tuples(*[messages] * form.count("{}")).map(lambda each: form.format(*each))
)
# Mostly headers that agree with some call: legacy, and modern with and without names.
selectors = st.one_of(st.sampled_from([0, 3, 3, 4 | 1 << 3 | 1 << 5]), st.integers(0, 127))
codecs = st.sampled_from(["utf-8"] * 40 + ["utf-8-sig", "utf-16", "utf-32-be"])


@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
@given(selectors, bodies, codecs)
def test_every_reading_agrees_on_what_is_allowed(selector: int, body: str, codec: str) -> None:
    """First or last wins, folded or exact, batch or stream: each finds the gate's call."""
    allowed = check(SNAPSHOT, build_request(selector, body.encode(codec)))
    event("allowed" if allowed else "denied")


def parse_leniently(body: bytes, _most_containers: int) -> object:
    """As most servers parse."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise Doubtful(Reason.MALFORMED_JSON, "") from None


def test_the_check_is_sharp(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were the gate as lenient as servers, the corpus would show it."""
    monkeypatch.setattr(jsonrpc, "parse", parse_leniently)
    monkeypatch.setattr(jsonrpc, "_check_case", lambda *_: None)
    caught = set()
    for case in load("hostile-*"):
        if case.alone:
            # Headers of the granted tool: only the body is ambiguous.
            for selector in (3, 3 | 1 << 3):
                try:
                    check(SNAPSHOT, build_request(selector, case.body))
                except (UnicodeError, RecursionError, TypeError):
                    continue  # half a surrogate pair, and what is too deep, get no answer
                except AssertionError:
                    caught.add(case.id.partition(".")[0])
    assert {"duplicate-key", "key-case"} <= caught


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b'{"method":"tools/call","params":{"name":"a","name":"b"}}', {"a", "b"}),
        (b'{"method":"ping","Method":"tools/call","params":{"name":"a"}}', {"a"}),
        (b'{"method":"tools/call","param\\u017f":{"name":"a"}}', {"a"}),
        (b'[{"method":"tools/call","params":{"name":"a"}}]', {"a"}),
        (b'{}{"method":"tools/call","params":{"name":"a"}}', {"a"}),
        ('{"method":"tools/call","params":{"name":"a"}}'.encode("utf-16"), {"a"}),
        (b'{"method":"ping","params":{"name":"a"}}', set()),
    ],
)
def test_the_readings_read(body: bytes, found: set[str]) -> None:
    """Each lenient way finds the call that is meant for it."""
    assert tool_calls(body) == found
