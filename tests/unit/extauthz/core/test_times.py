"""Instants and durations, read."""

import pytest

from extauthz.core.errors import Invalid
from extauthz.core.times import parse_moment

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
    with pytest.raises(Invalid, match="since: .*write it like"):
        parse_moment(text, "since", NOW)
