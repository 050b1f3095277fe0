"""Where a record lies, as text."""

from uuid import UUID

import pytest

from backend.ports.event_log import Position
from extauthz.core.errors import Invalid

TOPIC = "0190b3b8-0000-7000-8000-000000000000"
AT = Position(UUID(TOPIC), 3, 42)


def test_a_position_is_read_as_it_is_written() -> None:
    """There is one form of it."""
    assert str(AT) == f"{TOPIC}:3:42"
    assert Position.read(str(AT)) == AT


@pytest.mark.parametrize(
    "text",
    ["", TOPIC, f"{TOPIC}/3/42", f"{TOPIC}:3:-1", f"{TOPIC}:3:٣", f"{TOPIC}:3:42\n", "a:3:42"],
)
def test_what_is_no_position(text: str) -> None:
    """It is refused with the mend."""
    with pytest.raises(Invalid, match="sentinel dlq list"):
        Position.read(text)
