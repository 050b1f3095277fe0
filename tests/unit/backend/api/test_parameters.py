"""Parameters are read by what declares them."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.datastructures import MultiDict

from backend.api.parameters import Parameter, choice, clamped, count, moment, read, text
from extauthz.core.errors import Invalid

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
NAME = text("tool_name", "A tool.", aliases=("tool",))
SINCE = moment("since", "A time")
LIMIT = clamped("limit", 100, 1000, "How many")
PAGES = count("pages", 5, 9, "How many pages.")
FORM = choice("format", ("csv", "json"), "A form.")
ALL: tuple[Parameter[Any], ...] = (NAME, SINCE, LIMIT, PAGES, FORM)


def values(*pairs: tuple[str, str]) -> Any:
    return read(ALL, MultiDict(pairs), {}, NOW)


def test_what_is_not_given_has_its_default() -> None:
    """A blank one is not given, as existing tools send them."""
    for found in (values(), values(*((name.name, " ") for name in ALL))):
        assert [found[each] for each in ALL] == ["", None, 100, 5, ""]


def test_white_space_counts_in_texts_alone() -> None:
    """They are compared exactly; around numbers and times it means nothing."""
    found = values(("tool_name", " pay "), ("limit", " 7 "), ("since", " 1h "), ("format", " csv "))
    assert (found[NAME], found[LIMIT], found[FORM]) == (" pay ", 7, "csv")
    assert found[SINCE] == NOW - timedelta(hours=1)


def test_an_alias_counts_where_the_name_is_blank() -> None:
    """The name comes first."""
    assert values(("tool", "pay"))[NAME] == "pay"
    assert values(("tool", "pay"), ("tool_name", ""))[NAME] == "pay"
    assert values(("tool", "pay"), ("tool_name", "list"))[NAME] == "list"


def test_an_alias_is_held_to_the_same_where_the_name_counts() -> None:
    """What is described as refused is refused under each name."""
    with pytest.raises(Invalid, match="characters"):
        values(("tool", "x" * 2000), ("tool_name", "list"))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ("1h30m", NOW - timedelta(minutes=90)),
        ("2026-11-22T13:00:00+02:00", NOW - timedelta(hours=1)),
        ("2026-11-22T11:00:00.5Z", NOW - timedelta(minutes=59, seconds=59.5)),
    ],
)
def test_moments(given: str, found: datetime) -> None:
    """Instants, or how long ago."""
    assert values(("since", given))[SINCE] == found


WRONG = [
    ([("toolname", "x")], "toolname", "did you mean `tool_name`?"),
    ([("Limit", "3")], "Limit", "did you mean `limit`?"),
    ([("q", "x")], "q", "known: format, limit, pages, since, tool, tool_name"),
    ([("limit", "1"), ("limit", "2")], "limit", "give it once"),
    ([("tool_name", "x" * 1025)], "tool_name", "shorten it"),
    ([("since", "yesterday")], "since", "write it like"),
    ([("since", "9" * 400 + "h")], "since", "write it like"),
    ([("since", "0000-01-01T00:00:00Z")], "since", "write it like"),
    ([("pages", "0")], "pages", "write one of those"),
    ([("pages", "10")], "pages", "write one of those"),
    ([("pages", "٣")], "pages", "write one of those"),
    ([("format", "xml")], "format", "use one of csv, json"),
]


@pytest.mark.parametrize(("pairs", "field", "mend"), WRONG)
def test_what_cannot_be_read_is_refused(
    pairs: list[tuple[str, str]], field: str, mend: str
) -> None:
    """The parameter is named, and the mend."""
    with pytest.raises(Invalid) as refused:
        values(*pairs)
    assert refused.value.field == field
    assert mend in str(refused.value)


@given(st.dictionaries(st.sampled_from([each.name for each in ALL]) | st.text(), st.text()))
def test_any_text_is_read_or_refused(query: dict[str, str]) -> None:
    """Nothing else is raised."""
    try:
        found = values(*query.items())
    except Invalid as error:
        assert error.field in {name[:64] for name in query}
        return
    assert 1 <= found[LIMIT] <= 1000
    assert 1 <= found[PAGES] <= 9
