"""Follows all objects of one kind: a listing, and every change since.

A listing after a break tells what was deleted meanwhile, too: a grant that is deleted while the
API server is away must not stay in force.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from contextlib import aclosing
from typing import Final, Generic

from backend.ports.control_plane import Expired, Followed, Observed, Source
from extauthz.core.errors import SentinelError
from extauthz.core.governance import Key

MOST_PAUSE_SECONDS: Final = 5.0
_FIRST_PAUSE: Final = 0.2

_log = logging.getLogger(__name__)


class KindWatch(Generic[Followed]):
    """Follows one kind for ever.

    Args:
        listed: takes all objects as they stand, and the keys of those that are gone.
        changed: takes one change.

    Attributes:
        is_live: whether what was told is all there is.
    """

    def __init__(
        self,
        source: Source[Followed],
        kind: str,
        *,
        listed: Callable[[str, Sequence[Followed], Sequence[Key]], None],
        changed: Callable[[Observed[Followed]], None],
    ) -> None:
        self._source, self._kind = source, kind
        self._listed, self._changed = listed, changed
        self.is_live = False
        self._version = ""
        self._known: set[Key] = set()
        self._pause = 0.0

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            is_listing = not self._version
            try:
                if is_listing:
                    await self._list()
                await self._watch()
                self._pause = self._pause or _FIRST_PAUSE
            except Expired:
                self._version, self.is_live = "", False
                # The API server is back: what was revoked meanwhile must not wait any longer.
                self._pause = self._longer() if is_listing else 0.0
            except SentinelError as error:
                if self.is_live or not self._pause:
                    told = {"kind": self._kind, "error": str(error)}
                    _log.warning("objects cannot be followed", extra=told)
                self.is_live = False
                self._pause = self._longer()
            await asyncio.sleep(self._pause * random.uniform(0.5, 1.0))  # noqa: S311 - jitter

    def _longer(self) -> float:
        return min(MOST_PAUSE_SECONDS, self._pause * 2 or _FIRST_PAUSE)

    async def _list(self) -> None:
        listing = await self._source.listed(self._kind)
        there = {each.key for each in listing.items}
        gone = sorted(self._known - there)
        self._known, self._version = there, listing.version
        self._listed(self._kind, listing.items, gone)
        self.is_live = True

    async def _watch(self) -> None:
        async with aclosing(self._source.changes(self._kind, self._version)) as changes:
            async for observed in changes:
                self._pause, self.is_live = 0.0, True
                self._version = observed.version
                if observed.key is None:
                    continue
                if observed.standing is None:
                    self._known.discard(observed.key)
                else:
                    self._known.add(observed.key)
                self._changed(observed)
