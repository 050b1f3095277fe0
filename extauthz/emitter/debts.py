"""Gaps that the trail still has to be told of, until the telling is sent or on disk."""

from extauthz.core.events import Cause
from extauthz.emitter.entries import Gap, Line, gap_of


class Debts:
    """Gaps found but not told, and gaps told by an event that has not arrived yet."""

    def __init__(self) -> None:
        self._owed: list[Gap] = []
        self._told: dict[int, Gap] = {}  # by sequence of the `audit.gap`

    def owe(self, gap: Gap) -> None:
        """Note a gap; one that continues the last grows it."""
        if self._owed:
            last = self._owed[-1]
            if (last.gateway_start, last.cause) == (gap.gateway_start, gap.cause) and (
                last.last + 1 == gap.first
            ):
                self._owed[-1] = Gap(gap.gateway_start, last.first, gap.last, gap.cause)
                return
        self._owed.append(gap)

    def refuse(self, line: Line, gateway_start: str, *, own: bool) -> None:
        """Note a refused event; a gap that it tells of is owed again, beside its own place.

        Args:
            line: the event.
            gateway_start: of the start that made it.
            own: whether that is the running one.
        """
        if own:
            self._told.pop(line.sequence, None)
        if told := gap_of(line.body):
            self.owe(told)
        self.owe(Gap(gateway_start, line.sequence, line.sequence, Cause.REFUSED))

    def take_owed(self) -> list[Gap]:
        """Hand over what is owed, to be told now."""
        owed, self._owed = self._owed, []
        return owed

    def told(self, sequence: int, gap: Gap) -> None:
        """Note which event tells of a gap."""
        self._told[sequence] = gap

    def settle(self, sequence: int) -> Gap | None:
        """Note that an event is sent or spooled; return the gap that it told of, if any."""
        return self._told.pop(sequence, None)

    def lowest(self, gateway_start: str) -> int | None:
        """The first sequence of that start whose loss is not yet told for good."""
        firsts = [
            gap.first
            for gap in (*self._owed, *self._told.values())
            if gap.gateway_start == gateway_start
        ]
        return min(firsts, default=None)
