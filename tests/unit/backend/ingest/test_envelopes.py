"""What is put into the log: the producer's bytes, and little else."""

import json
import tracemalloc
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.auth.principal import Principal, Scope
from backend.ingest.envelopes import Reception, messages_of
from backend.ingest.refusals import Refused
from backend.ports.event_log import Message

MIB = 1 << 20
NOW = 1_790_000_000.0
ID = "0193a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"
NEW_ID = "01990000-0000-7000-8000-000000000000"
HEAD = b'"event_id":"%b","timestamp":"2026-09-21T14:13:19Z"' % ID.encode()


def receive(body: bytes, *, lines: bool = False, producer: str = "me") -> list[Message]:
    sender = Principal(producer, frozenset({Scope.INGEST}))
    reception = Reception(sender, NOW, 0.0, NOW + 3600, lambda: NEW_ID)
    return messages_of(body, lines=lines, reception=reception)


def test_the_bytes_stay() -> None:
    """A whole event goes on as it came, with the producer in front."""
    rest = b'{%b, "source": "s", "event_type": "t", "payload": {"n": 1.50, "e": 1E2}}' % HEAD
    (message,) = receive(rest)
    assert message.value == b'{"producer":"me",' + rest[1:]


REWRITTEN = [
    # what the client sends beside source, event_type and payload; what becomes of it
    (b'"producer":"other",' + HEAD, {"producer": "me"}),
    (b'"pr\\u006fducer":"other",' + HEAD, {"producer": "me"}),
    (b'"producer":{"a":[1]},' + HEAD, {"producer": "me"}),
    (b'"event_id":"","timestamp":""', {"event_id": NEW_ID}),
    (HEAD.replace(ID.encode(), ID.upper().encode()), {"event_id": ID}),
    (b'"timestamp":"2026-09-21T14:13:19Z"', {"event_id": NEW_ID}),
    (b'"event_id":"%b"' % ID.encode(), {"timestamp": "2026-09-21T14:13:20.000Z"}),
    (HEAD + b"\n", {"event_id": ID}),
]


@pytest.mark.parametrize(("own", "expected"), REWRITTEN)
def test_what_must_be_written_anew(own: bytes, expected: dict[str, str]) -> None:
    """Only these members change; the others keep every digit, on one line."""
    tail = b'"source":"s","event_type":"t","payload":{"n":1.50,"e":1E2,"s":"\\u0000\\n"},"x":[ 1 ]}'
    (message,) = receive(b"{" + own + b"," + tail)
    assert json.loads(message.value).items() >= ({"producer": "me"} | expected).items()
    assert b'"payload":{"n":1.50,"e":1E2,"s":"\\u0000\\n"}' in message.value
    assert json.loads(message.value)["x"] == [1]
    assert b"\n" not in message.value


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"]), max_size=8), inner, max_size=3
        )
    ),
    max_leaves=8,
)
NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=8) | st.sampled_from(
    ["producer", "event_id", "timestamp", "resent"]
)
OWN = {
    "event_id": st.sampled_from(["", ID, ID.upper()]),
    "timestamp": st.sampled_from(["", "2026-09-21T14:13:19Z"]),
    "trace_id": st.just("4bf92f3577b34da6a3ce929d0e0e4736"),
    "resent": st.booleans(),
    "producer": JSON,
}


@given(
    own=st.fixed_dictionaries({}, optional=OWN),
    more=st.dictionaries(NAMES, JSON, max_size=3),
    payload=JSON.filter(lambda value: value is not None),
    indent=st.sampled_from([None, 1]),
    as_ascii=st.booleans(),
    form=st.sampled_from(["one", "array", "lines"]),
)
def test_stamped_and_else_unchanged(
    own: dict[str, Any],
    more: dict[str, Any],
    payload: Any,
    indent: int | None,
    as_ascii: bool,
    form: str,
) -> None:
    """Whatever an event holds, however written: a producer, once, and the rest as it was."""
    more = {name: value for name, value in more.items() if name not in (*OWN, "source")}
    event = {"source": "s", "event_type": "t", "payload": payload} | more | own
    text = json.dumps(event, indent=None if form == "lines" else indent, ensure_ascii=as_ascii)
    body = f"[{text},{text}]" if form == "array" else text
    message = receive(body.encode(), lines=form == "lines", producer='say "me"')[-1]
    pairs = json.loads(message.value, object_pairs_hook=list)
    names = [name for name, _ in pairs]
    assert len(names) == len(set(names))
    stored = json.loads(message.value)
    assert stored.pop("producer") == 'say "me"'
    assert stored.pop("event_id") == (event.pop("event_id", "") or NEW_ID).lower()
    given_time = event.pop("timestamp", "") or "2026-09-21T14:13:20.000Z"
    assert stored.pop("timestamp") == given_time
    event.pop("producer", None)
    assert stored == event
    assert b"\n" not in message.value


@given(
    st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "ignore"))
)
def test_anything_else_is_refused(body: bytes) -> None:
    """Whatever the bytes, nothing but Refused is raised."""
    for lines in (False, True):
        with pytest.raises(Refused):
            receive(body, lines=lines)


HOSTILE = [
    b"[" + b"1," * (2 << 20) + b"1]",
    b'["' + b'a","' * MIB + b'"]',
    b"[" + b"{}," * MIB + b"{}]",
    b"[" + b'{"source":1,"event_type":1,"payload":1},' * (MIB // 10) + b"1]",
    b'[{"source":"s","event_type":"t","payload":[' + b'"a",' * MIB + b"1]}]",
    b'[{"source":"s","event_type":"t","payload":[' + b'"a",' * MIB + b"1}]",
    b'[{"source":"s","event_type":"t","payload":' + b"[" * MIB + b"}]",
    b'[{"source":"s","event_type":"t","payload":' + b"9" * (4 * MIB) + b"}]",
    b'[{"source":"s","event_type":"t","payload":"' + b"\\ud800" * (MIB // 2) + b'"}]',
]


@pytest.mark.parametrize("body", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_array_costs_little_memory(body: bytes) -> None:
    """Whatever 4 MiB hold, no more than some times their size is built."""
    tracemalloc.start()
    with pytest.raises(Refused):
        receive(body)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * len(body)


def test_a_broken_array_is_looked_at_in_part() -> None:
    """Which event breaks it is looked for among as many as a request may hold."""
    events = b'{"source":1,"event_type":1,"payload":1},' * 20_000
    with pytest.raises(Refused, match="more than 10000 events"):
        receive(b"[" + events + b"x]")


def test_keys() -> None:
    """One start of a gateway has one key, whoever sends it and whether again; foreign have none."""

    def key(payload: Any, producer: str = "me", resent: bool = False) -> bytes | None:
        event = {"source": "s", "event_type": "t", "payload": payload, "resent": resent}
        (message,) = receive(json.dumps(event).encode(), producer=producer)
        return message.key

    start = str(uuid.UUID(int=7))
    assert key({"gateway_start": start, "sequence": 1}) == start.encode()
    assert key({"gateway_start": start, "sequence": 2}, "replaced", True) == start.encode()
    for foreign in ("text", {}, {"gateway_start": ""}, {"gateway_start": 1}, ["gateway_start"]):
        assert key(foreign) is None


def test_a_batch_of_the_same_is_read_event_by_event() -> None:
    """An array, lines and single events give the same messages."""
    one = b'{%b,"source":"s","event_type":"t","payload":{"a":1}}' % HEAD
    alone = receive(one) * 3
    assert receive(b"[" + b", ".join([one] * 3) + b"]") == alone
    assert receive(b"\n".join([one] * 3), lines=True) == alone
