"""Ranges of sequences, both ends included. Pure."""

from collections.abc import Iterable, Sequence

Span = tuple[int, int]


def size(spans: Iterable[Span]) -> int:
    """How many numbers they hold; they must not overlap."""
    return sum(last - first + 1 for first, last in spans)


def shared(span: Span, others: Iterable[Span]) -> list[Span]:
    """The parts of `span` that lie in `others` (ascending, not overlapping)."""
    first, last = span
    cut = ((max(first, low), min(last, high)) for low, high in others)
    return [(low, high) for low, high in cut if low <= high]


def left(span: Span, others: Iterable[Span]) -> list[Span]:
    """The parts of `span` that lie in none of `others` (in any order)."""
    parts = [span] if span[0] <= span[1] else []
    for low, high in others:
        parts = [
            part
            for first, last in parts
            for part in ((first, min(last, low - 1)), (max(first, high + 1), last))
            if part[0] <= part[1]
        ]
    return parts


def joined(spans: Iterable[Span]) -> Sequence[Span]:
    """The same numbers in as few spans as can be, ascending."""
    found: list[Span] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], last))
        else:
            found.append((first, last))
    return found
