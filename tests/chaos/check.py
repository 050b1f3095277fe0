"""The verdict on a run: what was answered, beside what is stored and what gaps tell of."""

import heapq
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from tests.chaos.calls import Answer, Gateway
from tests.chaos.trail import Row, Trail

CALL, GAP = "mcp.request", "audit.gap"
POISON_SOURCE = "chaos-poison"  # of records that were written straight to the log
Place = tuple[int, int]  # (which start of its gateway, sequence)
_FIRST, _LAST = (-1, 0), (1 << 62, 0)


@dataclass
class Verdict:
    """The line of a run.

    Args:
        offered: answered decisions, and events that ingest took from others.
        stored: those of them that are in the store.
        duplicated: rows beyond the first of an event, of a call or of a position in the log.
        lost: offered and not stored.
        explained: lost, in best effort, and in a range that an `audit.gap` names.
        problems: all that must not be, in words.
    """

    offered: int = 0
    stored: int = 0
    duplicated: int = 0
    explained: int = 0
    problems: list[str] = field(default_factory=list)

    @property
    def lost(self) -> int:
        return self.offered - self.stored

    def __str__(self) -> str:
        numbers = ("offered", "stored", "duplicated", "lost", "explained")
        return " ".join(f"{name}={getattr(self, name)}" for name in numbers)


def judge(trail: Trail, gateways: Sequence[Gateway], foreign: Iterable[str]) -> Verdict:
    """Compare.

    Args:
        foreign: ids of events that ingest answered 202 to, beside the gateways'.
    """
    verdict = Verdict()
    say = verdict.problems.append
    for name, equal in trail.projections.items():
        if not equal:
            say(f"projection `{name}` does not equal the rows")
    if not trail.projections:
        say("the store has no projection to compare")
    ids = {row.event_id for row in trail.rows}
    counts: list[tuple[str, Counter[Hashable]]] = [
        ("event", Counter(row.event_id for row in trail.rows)),
        ("position", Counter(row.position for row in trail.rows)),
    ]
    for what, counted in counts:
        if extra := [key for key, count in counted.items() if count > 1]:
            verdict.duplicated += sum(counted[key] - 1 for key in extra)
            say(f"stored more than once, by {what}: {extra[:3]}")
    for event_id in foreign:
        verdict.offered += 1
        verdict.stored += event_id in ids
        if event_id not in ids:
            say(f"ingest took `{event_id}`, and the store does not have it")
    accounts = Accounts(trail.rows)
    for gateway in gateways:
        _judge_gateway(verdict, gateway, accounts)
    return verdict


class Accounts:
    """Sequences by gateway start: which are stored, and which a gap tells of."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.stored: dict[str, dict[int, Row]] = defaultdict(dict)
        self.told: dict[str, set[int]] = defaultdict(set)
        self.calls: dict[str, list[Row]] = defaultdict(list)
        self.by_id = {row.event_id: row for row in rows}
        for row in rows:
            if row.source == POISON_SOURCE:
                continue
            if row.event_type == CALL and row.trace_id:
                self.calls[row.trace_id].append(row)
            if start := row.member("gateway_start"):
                self.stored[start][row.member("sequence")] = row
            if row.event_type == GAP:
                told = range(row.member("first"), row.member("last") + 1)
                self.told[row.member("lost_gateway_start")].update(told)

    def absent(self, start: str) -> set[int]:
        """What gaps of a start tell of that is indeed not there."""
        return self.told[start] - self.stored[start].keys()

    def holes(self, start: str, taken: int) -> list[int]:
        """Sequences, of those taken, that are neither stored nor told."""
        known = self.told[start] | self.stored[start].keys()
        last = max(taken, max(known, default=0))
        return [sequence for sequence in range(1, last + 1) if sequence not in known]


def _judge_gateway(verdict: Verdict, gateway: Gateway, accounts: Accounts) -> None:
    say, name = verdict.problems.append, gateway.name
    if blocked := gateway.blocked():
        say(f"{name}: {len(blocked)} calls were refused without a cause: {blocked[:3]}")
    mine = {s for s, rows in accounts.stored.items() if _is_of(rows.values(), name)}
    for start in mine | gateway.starts.keys():
        if holes := accounts.holes(start, gateway.starts.get(start, 0)):
            say(f"{name}: start {start} has {len(holes)} unexplained holes: {holes[:5]}")
    missing = []
    for answer in gateway.answers:
        found = accounts.calls[answer.trace_id]
        verdict.offered += 1
        verdict.stored += bool(found)
        if not found:
            missing.append(answer)
            continue
        if len(found) > 1:
            verdict.duplicated += len(found) - 1
            say(f"{name}: one call, {len(found)} events: {answer}")
        told = (found[0].member("reason"), found[0].event_id)
        if told != (answer.reason, answer.decision_id or told[1]):
            say(f"{name}: answered {answer}, recorded {told}")
    unexplained = missing
    if missing and not gateway.durable:
        unexplained = _unexplained(missing, gateway, accounts)
    verdict.explained += len(missing) - len(unexplained)
    if unexplained:
        say(f"{name}: {len(unexplained)} answered calls are lost: {unexplained[:3]}")


def _is_of(rows: Iterable[Row], name: str) -> bool:
    return any(row.member("gateway") == name for row in rows)


def _unexplained(missing: Sequence[Answer], gateway: Gateway, accounts: Accounts) -> list[Answer]:
    """Answers that no absent sequence of a gap can stand for, each sequence standing for one.

    A decision that was answered before another was asked for has the lower place, whatever
    the clocks say; so the stored ones bound where a missing one was.
    """
    rank = {start: place for place, start in enumerate(gateway.starts)}
    known = []
    for answer in gateway.answers:
        for row in accounts.calls[answer.trace_id][:1]:
            start = row.member("gateway_start")
            known.append((answer, (rank.get(start, -1), row.member("sequence"))))
    ended = sorted((answer.ended, place) for answer, place in known)
    began = sorted((answer.began, place) for answer, place in known)
    highest = list(accumulate((place for _, place in ended), max))
    lowest = list(accumulate((place for _, place in reversed(began)), min))[::-1]
    bounds = []
    for number, answer in enumerate(missing):
        before = bisect_left(ended, (answer.began, _FIRST))
        after = bisect_right(began, (answer.ended, _LAST))
        low = highest[before - 1] if before else _FIRST
        high = lowest[after] if after < len(lowest) else _LAST
        bounds.append((low, high, number))
    slots = sorted((place, s) for start, place in rank.items() for s in accounts.absent(start))
    explained = _matched(slots, sorted(bounds))
    return [answer for number, answer in enumerate(missing) if number not in explained]


def _matched(slots: Sequence[Place], bounds: Sequence[tuple[Place, Place, int]]) -> set[int]:
    """Give each slot to the one that may have it and can wait the least."""
    waiting: list[tuple[Place, int]] = []
    explained: set[int] = set()
    ahead = 0
    for slot in slots:
        while ahead < len(bounds) and bounds[ahead][0] < slot:
            _, high, number = bounds[ahead]
            heapq.heappush(waiting, (high, number))
            ahead += 1
        while waiting and waiting[0][0] <= slot:
            heapq.heappop(waiting)
        if waiting:
            explained.add(heapq.heappop(waiting)[1])
    return explained
