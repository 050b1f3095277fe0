"""Follows the log, sends its events, and stores how far it came."""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, TypeVar

from extauthz.core.decision import PolicyFacts
from extauthz.core.errors import Invalid
from extauthz.core.events import Cause
from extauthz.core.refusals import Refusal
from extauthz.emitter.entries import Line
from extauthz.emitter.ingest import Ingest
from extauthz.emitter.options import EmitterOptions
from extauthz.emitter.rest import REST_SECONDS
from extauthz.undecided.calls import OpenCalls
from extauthz.undecided.events import Place, Writer, identify
from extauthz.undecided.lines import UndecidedRequest, read_line
from extauthz.undecided.log import Chunk, Record, Replaced, UndecidedLog
from extauthz.undecided.position import Bookmark, Loss, Position

_log = logging.getLogger(__name__)
T = TypeVar("T")

POLL_SECONDS: Final = 0.2
BOOKMARK: Final = "undecided.position"
CAUSES: Final = (Cause.UNDECIDED_OVERFLOW, Cause.REFUSED, Cause.UNDECIDED_REPLACED)


@dataclass(frozen=True, slots=True)
class _Found:
    """A chunk and what its lines say; None for the unreadable."""

    chunk: Chunk
    lines: tuple[tuple[Record, UndecidedRequest | None], ...]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Events for one request to ingest, and the position once they have arrived.

    Args:
        gaps: sequences of those that are gaps.
        reasons: of the others.
    """

    lines: list[Line]
    gaps: frozenset[int]
    reasons: Counter[Refusal]
    position: Position


class Tail:
    """Follows the log.

    Args:
        path: the log.
        max_bytes: unread lines kept while ingest is away; the oldest beyond are dropped,
            counted and told as a gap.
        options: of the emitter: where events go, and who sends them. The position is
            stored in its spool folder, which the emitter keeps other processes out of.
        facts: of the running policy, for the names in events.
        calls: decided calls without an end.
        clock: seconds since the epoch.

    Attributes:
        sent: events that ingest has accepted, by reason.
        dropped: lines that no event tells of, by cause; of a replaced file one.
    """

    def __init__(
        self,
        path: Path,
        max_bytes: int,
        options: EmitterOptions,
        *,
        facts: Callable[[], PolicyFacts],
        calls: OpenCalls,
        clock: Callable[[], float],
    ) -> None:
        self._path, self._max_bytes, self._options = path, max_bytes, options
        self._log = UndecidedLog(path)
        self._bookmark = Bookmark(options.spool_folder / BOOKMARK)
        self._writer, self._facts, self._calls = Writer(options), facts, calls
        self._clock = clock
        self._position = Position()
        self._maybe_sent = 0  # ingest may have what lies before this offset
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="undecided")
        self._stopping = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._ingest: Ingest | None = None
        self.sent: Counter[Refusal] = Counter()
        self.dropped: Counter[Cause] = Counter()

    async def start(self) -> None:
        """Go on where the last process stopped. The emitter must run.

        Raises:
            Invalid: what stands at the path is no file.
        """
        if self._path.exists() and not self._path.is_file():
            problem = f"`{self._path}` is not a file"
            raise Invalid("UNDECIDED_LOG", problem, "name the file that Envoy writes")
        self._position = await self._in_thread(self._bookmark.load)
        self._maybe_sent = await self._in_thread(self._log.size)
        self._ingest = Ingest(self._options, asyncio.get_running_loop().time)
        self._worker = asyncio.create_task(self._run(self._ingest), name="undecided log")

    async def stop(self, seconds: float) -> None:
        """Send what is there, within `seconds`; the rest waits in the file."""
        self._stopping.set()
        if self._worker:
            await asyncio.wait({self._worker}, timeout=seconds)
            self._worker.cancel()
            await asyncio.wait({self._worker})
        if self._ingest:
            await self._ingest.close()
        await self._in_thread(self._log.close)  # after what the thread still does
        self._thread.shutdown()

    @property
    def disk_bytes(self) -> int:
        """What the log takes of the disk."""
        return self._log.disk_bytes()

    async def _run(self, ingest: Ingest) -> None:
        while True:
            rest = POLL_SECONDS
            try:
                if await self._step(ingest):
                    continue
            except Exception:  # a failing disk, or a bug: the lines are still there
                _log.exception("the undecided log cannot be followed")
                rest = REST_SECONDS
            if self._stopping.is_set():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(rest):
                    await self._stopping.wait()

    async def _step(self, ingest: Ingest) -> bool:
        """Send the next lines; tell whether to go on at once."""
        try:
            found = await self._in_thread(self._read)
        except Replaced as replaced:
            await self._turn(replaced)
            return True
        if found is None and not (self._position.losses and self._position.log):
            return False
        batch, outcomes = self._batch(found)
        if not batch.lines:
            await self._advance(batch.position)
            return True
        if outcomes != self._position.outcomes:
            self._position = replace(self._position, outcomes=outcomes)
            await self._in_thread(self._bookmark.store, self._position)
        self._maybe_sent = max(self._maybe_sent, batch.position.offset)
        delivery = asyncio.create_task(ingest.deliver(batch.lines), name="deliver undecided")
        try:
            while not (await asyncio.wait({delivery}, timeout=POLL_SECONDS))[0]:
                if await self._in_thread(self._unread) > self._max_bytes:
                    await self._drop_oldest()
                    return True
                if self._stopping.is_set() and ingest.away:
                    return False
        finally:
            delivery.cancel()
            await asyncio.wait({delivery})
        await self._arrived(batch, delivery.result())
        return True

    def _read(self) -> _Found | None:
        chunk = self._log.read(self._position)
        if chunk is None:
            return None
        lines = ((record, read_line(record.body)) for record in chunk.records)
        return _Found(chunk, tuple(lines))

    def _batch(self, found: _Found | None) -> tuple[_Batch, tuple[int, ...]]:
        """Write the events of losses and lines; a line that ends a decided call has none.

        Returns:
            The batch, and the offsets of such lines.
        """
        position, facts = self._position, self._facts()
        log, at, sequence = position.log, position.at, position.sequence
        lines: list[Line] = []
        reasons: Counter[Refusal] = Counter()
        for loss in position.losses if log else ():
            sequence += 1
            place = Place(identify(0, log, sequence, loss), log, sequence, at or self._clock())
            lines.append(Line(0, sequence, self._writer.gap(place, loss, facts), resent=True))
        gaps = frozenset(line.sequence for line in lines)
        position = replace(position, sequence=sequence, losses=() if log else position.losses)
        if found is None:
            return _Batch(lines, gaps, reasons, position), position.outcomes
        outcomes = list(position.outcomes)
        for record, request in found.lines:
            log = log or self._name(record)
            at = request.at if request else at
            if record.offset in outcomes:
                continue
            if request and self._calls.settle(request):
                outcomes.append(record.offset)
                continue
            sequence += 1
            # The line itself makes its id: an inode and an offset may come again.
            event_id = identify(
                request.at if request else 0, self._log.inode, record.offset, record.body
            )
            place = Place(event_id, log, sequence, at or self._clock())
            body = self._writer.request(place, request, facts)
            lines.append(Line(0, sequence, body, resent=record.offset < self._maybe_sent))
            reasons[request.reason if request else Refusal.GATEWAY_ERROR] += 1
        position = replace(position, log=log, sequence=sequence, at=at)
        batch = _Batch(lines, gaps, reasons, _behind(position, found.chunk))
        return batch, tuple(outcomes)

    def _name(self, first: Record) -> str:
        """The id of a log, by its first line."""
        request = read_line(first.body)
        return identify(request.at if request else 0, self._log.inode, first)

    async def _arrived(self, batch: _Batch, refused: list[Line]) -> None:
        position = batch.position
        losses = [
            Loss(position.log, line.sequence, line.sequence, Cause.REFUSED.value)
            for line in refused
            if line.sequence not in batch.gaps  # a gap that is refused itself must not spin
        ]
        self.sent += batch.reasons
        if losses:
            self.dropped[Cause.REFUSED] += len(losses)
        await self._advance(position.losing(*losses))

    async def _advance(self, position: Position) -> None:
        self._position = position = replace(position, outcomes=())
        await self._in_thread(self._bookmark.store, position)
        await self._in_thread(self._log.release, position)

    async def _turn(self, replaced: Replaced) -> None:
        """Begin with the file that stands there now."""
        former = self._position
        fresh = Position(losses=former.losses)
        if not replaced.finished:
            _log.warning("the undecided log was cut or replaced: lines may be missing")
            log = identify(self._clock(), former.log, former.offset, replaced.inode)
            lost = Loss(former.log, 0, 0, Cause.UNDECIDED_REPLACED.value)
            fresh = replace(fresh, log=log, at=former.at).losing(lost)
            self.dropped[Cause.UNDECIDED_REPLACED] += 1
        self._maybe_sent = 0
        await self._advance(fresh)

    def _unread(self) -> int:
        return self._log.size() - self._position.offset

    async def _drop_oldest(self) -> None:
        """Drop lines until half the room is free again."""
        position, count = await self._in_thread(self._skip)
        if not count:
            return
        told = {"count": count}
        _log.warning("the undecided log is full, lines were dropped; bring ingest back", extra=told)
        self.dropped[Cause.UNDECIDED_OVERFLOW] += count
        first, last = position.sequence - count + 1, position.sequence
        loss = Loss(position.log, first, last, Cause.UNDECIDED_OVERFLOW.value)
        await self._advance(position.losing(loss))

    def _skip(self) -> tuple[Position, int]:
        position, count = self._position, 0
        while self._log.size() - position.offset > self._max_bytes // 2:
            chunk = self._log.read(position)
            if chunk is None:
                break
            if chunk.records and not position.log:
                position = replace(position, log=self._name(chunk.records[0]))
            count += len(chunk.records)
            position = _behind(position, chunk)
        return replace(position, sequence=position.sequence + count), count

    async def _in_thread(self, work: Callable[..., T], *arguments: object) -> T:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._thread, work, *arguments)


def _behind(position: Position, chunk: Chunk) -> Position:
    return replace(position, offset=chunk.offset, tail=chunk.tail, digest=chunk.digest)
