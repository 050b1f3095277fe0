"""The span of time that a page is about: `range` in its URL, or `since` and `until`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

RANGES: Final = {
    "15m": timedelta(minutes=15),
    "1h": timedelta(hours=1),
    "24h": timedelta(days=1),
    "7d": timedelta(days=7),
}
DEFAULT: Final = "1h"


@dataclass(frozen=True, slots=True)
class Span:
    """One range that ends now.

    Args:
        name: as it stands in the URL.
    """

    name: str
    since: datetime

    @property
    def window(self) -> str:
        """As the api's parameter `window`."""
        return f"{int(RANGES[self.name].total_seconds())}s"

    @property
    def since_text(self) -> str:
        return self.since.strftime("%Y-%m-%dT%H:%M:%SZ")


def span(given: Mapping[str, str], now: datetime | None = None) -> Span:
    """The one that is asked for; one that is not known is the default."""
    name = given.get("range", DEFAULT)
    name = name if name in RANGES else DEFAULT
    return Span(name, (now or datetime.now(UTC)) - RANGES[name])
