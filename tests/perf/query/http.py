"""The api as a process of its own: the same questions, many at once, and exports."""

import http.client
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlencode

from tests.perf.pipeline.processes import KEY, Service, usage
from tests.perf.query.bare import Spent
from tests.perf.query.questions import Asked

CONNECTIONS = 16
LEAST = 6  # arguments of a question, however long it takes
PAGE = "/api/events?limit=100"


class Client:
    """One connection that stays open."""

    def __init__(self, api: Service) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", api.api_port, timeout=120)

    def get(self, path: str, headers: Mapping[str, str] | None = None) -> int:
        """Bytes of the answer, which must be a good one."""
        self._connection.request("GET", path, headers={"x-api-key": KEY, **(headers or {})})
        response = self._connection.getresponse()
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path}: {response.status} {body[:500]!r}")
        return len(body)

    def lines(self, path: str) -> int:
        """How many lines a stream has."""
        self._connection.request("GET", path, headers={"x-api-key": KEY})
        response = self._connection.getresponse()
        found = 0
        while chunk := response.read1(1 << 20):
            found += chunk.count(b"\n")
        return found

    def close(self) -> None:
        self._connection.close()


def times(api: Service, asked: Sequence[Asked], budget: float) -> list[Spent]:
    """On each, one after the other, as long as there is time."""
    client, found = Client(api), []
    until, before = time.monotonic() + budget, usage([api.pid]).cpu_seconds
    for number, each in enumerate(asked):
        if number >= LEAST and time.monotonic() > until:
            break
        begin = time.perf_counter()
        client.get(each.path)
        found.append(time.perf_counter() - begin)
    client.close()
    cpu = usage([api.pid]).cpu_seconds - before
    return [Spent(seconds, cpu / len(found)) for seconds in found]


@dataclass(frozen=True, slots=True)
class Load:
    """Many connections at once, each asking for the next page as soon as it has one.

    Args:
        cpu_ms: of the api, the engine within it, for each request.
    """

    connections: int
    requests_per_second: float
    p95_ms: float
    cpu_ms: float


def load(api: Service, seconds: float) -> Load:
    until = time.monotonic() + seconds

    def ask() -> list[float]:
        client, found = Client(api), []
        while time.monotonic() < until:
            begin = time.perf_counter()
            client.get(PAGE)
            found.append(time.perf_counter() - begin)
        client.close()
        return found

    before, begin = usage([api.pid]).cpu_seconds, time.monotonic()
    with ThreadPoolExecutor(CONNECTIONS) as pool:
        runs = list(pool.map(lambda _: ask(), range(CONNECTIONS)))
    took = time.monotonic() - begin
    cpu = usage([api.pid]).cpu_seconds - before
    all_ = sorted(each for run in runs for each in run)
    return Load(
        connections=CONNECTIONS,
        requests_per_second=len(all_) / took,
        p95_ms=1000 * all_[int(len(all_) * 0.95)],
        cpu_ms=1000 * cpu / len(all_),
    )


@dataclass(frozen=True, slots=True)
class Export:
    """A stream of all events since some time.

    Args:
        grown_mb: how much memory the process took meanwhile.
    """

    events: int
    events_per_second: float
    events_per_cpu_second: float
    grown_mb: float


def export(api: Service, form: str, since: str) -> Export:
    client = Client(api)
    before, begin = usage([api.pid]), time.monotonic()
    events = client.lines(f"/api/events?{urlencode({'format': form, 'since': since})}")
    took, after = time.monotonic() - begin, usage([api.pid])
    client.close()
    return Export(
        events=events,
        events_per_second=events / took,
        events_per_cpu_second=events / (after.cpu_seconds - before.cpu_seconds),
        grown_mb=after.rss_mb - before.rss_mb,
    )
