"""An index with changes over it, against a dictionary that is changed."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from extauthz.core.layered import changed

KEYS = st.integers(0, 9)
VALUES = st.one_of(st.none(), st.integers())


@settings(derandomize=True)
@given(
    st.dictionaries(KEYS, st.integers()),
    st.lists(st.dictionaries(KEYS, VALUES), max_size=5),
    st.sampled_from([0, 600]),
)
def test_same_as_a_dictionary(
    first: dict[int, int], changes: list[dict[int, int | None]], more: int
) -> None:
    """It holds the same, and what it was made of holds what it held, few changes or many."""
    index, expected = changed(first, {}), dict(first)
    for step in changes:
        step |= {key: key for key in range(100, 100 + more)}
        before, held = index, dict(index)
        index = changed(index, step)
        for key, value in step.items():
            expected.pop(key, None)
            if value is not None:
                expected[key] = value
        assert dict(before) == held
    assert (dict(index), len(index), index) == (expected, len(expected), expected)
    assert [index.get(key, "none") for key in range(12)] == [
        expected.get(key, "none") for key in range(12)
    ]
    assert [key in index for key in range(12)] == [key in expected for key in range(12)]


def test_what_is_gone_is_an_error() -> None:
    """As of a dictionary."""
    with pytest.raises(KeyError):
        changed({"a": 1}, {"a": None})["a"]
