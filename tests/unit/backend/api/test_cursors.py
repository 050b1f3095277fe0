"""Cursors as clients hold them."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.api.cursors import CURSOR, written
from backend.queries import Cursor
from extauthz.core.errors import Invalid

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
HELD = written(Cursor(NOW, "01a2047a-b530-7323-92fc-da63a5512313"))
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2106, 1, 1)).map(
    lambda at: at.replace(microsecond=at.microsecond // 1000 * 1000, tzinfo=UTC)
)


@given(TIMES, st.uuids())
def test_a_cursor_comes_back(at: datetime, event_id: object) -> None:
    """To the millisecond."""
    cursor = Cursor(at, str(event_id))
    assert CURSOR.read(written(cursor), NOW) == cursor


@given(st.integers(0, len(HELD) - 1), st.characters(codec="utf-8"))
def test_what_was_changed_is_refused(place: int, letter: str) -> None:
    """One letter is enough; the answer names the parameter."""
    changed = HELD[:place] + letter + HELD[place + 1 :]
    if changed == HELD:
        return
    with pytest.raises(Invalid) as refused:
        CURSOR.read(changed, NOW)
    assert refused.value.field == "cursor"


@pytest.mark.parametrize(
    "text",
    [
        "x",
        HELD[:-1],
        HELD + "=",
        HELD + "A",
        HELD * 2,
        base64.urlsafe_b64encode(b'{"offset":100}').decode(),
        base64.urlsafe_b64encode(b"\x02" + base64.urlsafe_b64decode(HELD + "=")[1:]).decode(),
        "é",
        "\x00",
    ],
)
def test_what_is_no_cursor_is_refused(text: str) -> None:
    """Other versions and foreign cursors, too; the mend is to begin anew."""
    with pytest.raises(Invalid, match="begin without one"):
        CURSOR.read(text, NOW)
