"""Instants (RFC 3339) and durations (as Go writes them), to and from seconds."""

import re
from datetime import UTC, datetime
from functools import lru_cache

from extauthz.core.errors import Invalid
from extauthz.core.rules import DURATION, INSTANT

_INSTANT = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d)",
    re.ASCII,
)
_FIRST = datetime.min.replace(tzinfo=UTC).timestamp()
_LAST = datetime.max.replace(tzinfo=UTC, microsecond=999_000).timestamp()
_MOST_CHARACTERS = 64  # what is read is remembered, and strangers may send megabytes
_DURATION = re.compile(r"(?:(?P<h>\d+)h)?(?:(?P<m>\d+)m)?(?:(?P<s>\d+(?:\.\d+)?)s)?", re.ASCII)


def parse_instant(text: str, field: str) -> float:
    """Read an RFC 3339 date-time (section 5.6) as seconds since the epoch.

    Raises:
        Invalid: naming `field`, where it is anything else or names no real instant.
    """
    instant = _known(text)
    if instant is None:
        raise INSTANT.refusal(field, text)
    return instant


def _known(text: str) -> float | None:
    return _instant(text) if len(text) <= _MOST_CHARACTERS else None


@lru_cache(maxsize=256)  # the objects of one policy often end together
def _instant(text: str) -> float | None:
    if not _INSTANT.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).timestamp()
    except (ValueError, OverflowError):
        return None


def format_instant(seconds: float) -> str:
    """Write seconds since the epoch as RFC 3339 in UTC, to the millisecond.

    What lies outside of the years 1 to 9999 becomes their first or last moment.
    """
    whole, thousandths = divmod(int(min(max(seconds, _FIRST), _LAST) * 1000), 1000)
    return f"{_to_the_second(whole)}.{thousandths:03}Z"


def format_second(seconds: float) -> str:
    """The same to the second, as Kubernetes and people write it."""
    return format_instant(int(seconds)).replace(".000", "")


@lru_cache(maxsize=64)  # what is written down together happened together
def _to_the_second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None).isoformat()


def parse_duration(text: str, field: str) -> float:
    """Read a duration like `24h`, `1h30m` or `90s` as seconds; of one that is too long, infinity.

    Raises:
        Invalid: naming `field`, where it is anything else.
    """
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise DURATION.refusal(field, text)
    hours, minutes, seconds = match.group("h", "m", "s")
    return float(hours or 0) * 3600 + float(minutes or 0) * 60 + float(seconds or 0)


def parse_moment(text: str, field: str, now: float) -> float:
    """Read an instant, or a duration: so long before `now`. Seconds since the epoch.

    Raises:
        Invalid: naming `field`, where it is neither.
    """
    if _DURATION.fullmatch(text):
        return now - parse_duration(text, field)
    instant = _known(text)
    if instant is None:
        problem = f"`{text[:64]}` is neither a duration nor an RFC 3339 time"
        raise Invalid(field, problem, "write it like 1h30m or 2026-12-31T23:59:59Z")
    return instant
