"""The reading of events is as strict as the gate's own parse."""

import json

from hypothesis import given
from hypothesis import strategies as st

from backend.ingest.refusals import Refused
from backend.ingest.strict import value_of
from extauthz.core import strictjson
from tests.unit.backend.ingest.test_envelopes import JSON

TEXT = st.builds(json.dumps, st.dictionaries(st.text(max_size=3), JSON, max_size=3))
BREAKERS = ['"', "\\", "\\ud800", "\\u0000", "\0", "{", "}", "[", "]", ",", ":", '"a":1,', "true"]
BREAKERS += ["1e999", "NaN", "9" * 30, " ", "\n", "\ufeff", "é", "-", "0", ".", "null"]
PIECES = st.sampled_from(BREAKERS)


@given(text=TEXT, at=st.integers(0, 40), piece=PIECES | st.text(max_size=2), cut=st.integers(0, 3))
def test_what_is_read_the_gate_would_read(text: str, at: int, piece: str, cut: int) -> None:
    """Nothing that the gate refuses is taken, and what both take they read alike."""
    mutated = (text[:at] + piece + text[at + cut :]).encode("utf-8", "ignore")
    try:
        value = value_of(mutated)
    except Refused as refused:
        assert refused.problem
        return
    assert strictjson.parse(mutated) == value


def test_depth() -> None:
    """Both draw the line at the same depth."""
    for depth, fits in ((62, True), (63, True), (64, False)):
        text = b'{"a":' + b"[" * depth + b"]" * depth + b"}"
        for read, refusal in ((value_of, Refused), (strictjson.parse, strictjson.Doubtful)):
            try:
                read(text)
                taken = True
            except refusal:
                taken = False
            assert taken == fits
