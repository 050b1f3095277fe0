"""Query parameters: read strictly, so that a mistyped limit cannot vanish."""

from datetime import UTC, datetime

from werkzeug.datastructures import MultiDict

from extauthz.core.errors import Invalid
from extauthz.core.fields import nearest
from extauthz.core.times import parse_moment

Parameters = MultiDict[str, str]


def only(given: Parameters, known: frozenset[str]) -> None:
    """Refuse what is not known or stands there twice.

    Raises:
        Invalid: naming the parameter, and the known one most like it.
    """
    for name, values in given.lists():
        if name not in known:
            near = nearest(name, known)
            listed = ", ".join(sorted(known)) or "none"
            mend = f"did you mean `{near}`?" if near else f"known: {listed}"
            raise Invalid(name, "is not a known parameter", mend)
        if len(values) > 1:
            raise Invalid(name, "is given more than once", "give it once")


def moment(given: Parameters, name: str, now: datetime, default: str) -> datetime:
    """An instant (RFC 3339), or how long ago it was (`1h30m`).

    Raises:
        Invalid: naming the parameter.
    """
    text = given.get(name, "").strip() or default
    try:
        return datetime.fromtimestamp(parse_moment(text, name, now.timestamp()), UTC)
    except (ValueError, OverflowError, OSError):
        raise Invalid(name, f"`{text[:64]}` is out of range", "write it like 1h") from None


def count(given: Parameters, name: str, default: int, most: int) -> int:
    """A whole number in [1, most].

    Raises:
        Invalid: naming the parameter.
    """
    text = given.get(name, "").strip() or str(default)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= most):
        raise Invalid(name, f"`{text[:64]}` is not a number from 1 to {most}", "write one of those")
    return int(text)
