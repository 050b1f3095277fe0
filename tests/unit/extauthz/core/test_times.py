"""Instants and durations, read."""

import tracemalloc

import pytest

from extauthz.core.errors import Invalid
from extauthz.core.times import format_instant, parse_duration, parse_instant, parse_moment

NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1h", NOW - 3600),
        ("1h30m", NOW - 5400),
        ("0.5s", NOW - 0.5),
        ("2027-01-15T08:00:00Z", NOW),
        ("2027-01-15T09:00:00.250+01:00", NOW + 0.25),
    ],
)
def test_a_moment_is_an_instant_or_so_long_ago(text: str, moment: float) -> None:
    """Durations count back from now."""
    assert parse_moment(text, "since", NOW) == moment


@pytest.mark.parametrize("text", ["", "1d", "h", "yesterday", "2026-02-30T00:00:00Z", "-1h"])
def test_anything_else_is_refused(text: str) -> None:
    """With the field's name and an example."""
    with pytest.raises(Invalid, match=r"since: .*write it like"):
        parse_moment(text, "since", NOW)


def test_what_is_too_long_is_not_remembered() -> None:
    """However long the times that strangers send, none of them stays in memory."""
    tracemalloc.start()
    for turn in range(20):
        with pytest.raises(Invalid, match="is not an RFC 3339 time"):
            parse_instant(f"2026-01-01T00:00:00.{turn}" + "1" * 1_000_000 + "Z", "timestamp")
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert kept < 1_000_000


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (0.0, "1970-01-01T00:00:00.000Z"),
        (parse_instant("0001-01-01T00:00:00+14:00", ""), "0001-01-01T00:00:00.000Z"),
        (parse_instant("0999-02-03T04:05:06Z", ""), "0999-02-03T04:05:06.000Z"),
        (parse_instant("9999-12-31T23:59:59-14:00", ""), "9999-12-31T23:59:59.999Z"),
        (parse_duration("9" * 400 + "h", ""), "9999-12-31T23:59:59.999Z"),
    ],
)
def test_every_instant_is_written(seconds: float, written: str) -> None:
    """Those of which UTC has no year as the first or last one there is."""
    assert format_instant(seconds) == written
    assert format_instant(parse_instant(written, "")) == written
