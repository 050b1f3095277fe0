"""Ranges, against sets of numbers."""

import itertools

from hypothesis import given
from hypothesis import strategies as st

from backend.api.spans import Span, joined, left, shared, size

NUMBERS = st.integers(0, 30)
SPANS = st.tuples(NUMBERS, NUMBERS).map(lambda ends: (min(ends), max(ends)))


def numbers(*spans: Span) -> set[int]:
    return {number for first, last in spans for number in range(first, last + 1)}


@given(SPANS, st.lists(SPANS))
def test_what_is_left_and_what_is_shared_make_the_whole(span: Span, others: list[Span]) -> None:
    """Each number of a span lies in one of the two, as sets have it."""
    assert numbers(*left(span, others)) == numbers(span) - numbers(*others)
    assert numbers(*shared(span, joined(others))) == numbers(span) & numbers(*others)


@given(st.lists(SPANS))
def test_joined_spans_hold_the_same_numbers_apart(spans: list[Span]) -> None:
    """They ascend, and none touches the next."""
    found = joined(spans)
    assert numbers(*found) == numbers(*spans)
    assert size(found) == len(numbers(*spans))
    assert all(one[1] + 1 < other[0] for one, other in itertools.pairwise(found))
