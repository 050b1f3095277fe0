"""`python -m tests.perf.parts`: what each part of a decision costs, in one warm process.

CPU time, the least of many rounds, so that it repeats within a few percent on a busy machine.
Beside Envoy, on cores that take turns, the same parts cost about twice as much.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import uuid_utils
from msgspec.structs import replace
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from prometheus_client import CollectorRegistry

from extauthz.accesslog import AccessLogReceiver
from extauthz.core.compile import compile_document
from extauthz.core.decide import Snapshot
from extauthz.core.decision import Decision
from extauthz.core.events import Asked, Decided, Outcome
from extauthz.core.headers import read_headers
from extauthz.core.identity import identify
from extauthz.core.jsonrpc import LIMITS, read_call
from extauthz.emitter.backlog import Backlog
from extauthz.emitter.entries import Encoder
from extauthz.emitter.mark import Mark
from extauthz.emitter.options import EmitterOptions
from extauthz.metrics import MeteredAudit
from extauthz.request import to_asked, to_request
from extauthz.response import to_response
from extauthz.undecided import OpenCalls
from protos.gen.external_auth_pb2 import CheckRequest
from tests.perf.policies import ALLOWED, document, request

CALLS, ROUNDS = 500, 40
WITHHELD = {"host", "user-agent", "accept", "content-length"}  # by Envoy: it is told so


class Trail:
    """The emitter's part of the answer path."""

    def __init__(self, folder: Path) -> None:
        options = EmitterOptions("http://127.0.0.1:1/events", folder, gateway="sidecar")
        mark = Mark(folder / "mark", new_id())
        self.backlog = Backlog(options, mark, time.time, time.monotonic, new_id)
        self.backlog.hurry = True
        self.encoder = Encoder(options, mark.gateway_start)

    def record(self, decided: Sequence[Decided]) -> list[Decision]:
        named = [(asked, decision.identified(new_id())) for asked, decision in decided]
        self.backlog.calls(named)
        return [decision for _, decision in named]

    def outcome(self, decision_id: str, outcome: Outcome) -> Decided | None:
        call = self.backlog.outcome(decision_id, outcome)
        return (call.asked, call.decision) if call else None


def main() -> int:
    """Measure and print."""
    policy, now = compile_document(document(1000)), time.time()
    snapshot, raw = Snapshot.of(policy, now), message()
    asked = to_request(CheckRequest.FromString(raw))
    headers = read_headers(asked.headers, policy.watched)
    call, identity = read_call(asked, headers), identify(policy, headers)

    def read() -> None:
        to_asked(to_request(CheckRequest.FromString(raw)))

    def decide() -> Decision:
        return snapshot.decide_call(call, identity, "127.0.0.1", now)

    tell("Envoy's message into a request", cost(read))
    tell("headers, each once", cost(lambda: read_headers(asked.headers, policy.watched)))
    tell("strict parse of the JSON-RPC message", cost(lambda: read_call(asked, headers)))
    worst = replace(asked, body=worst_body())
    tell("strict parse of the worst body that passes", once(lambda: read_call(worst, headers)))
    tell("identity, session, grants, decision", cost(lambda: identify(policy, headers), decide))
    with tempfile.TemporaryDirectory() as folder:
        tell_audit(Trail(Path(folder)), (to_asked(asked), decide()))
    return 0


def tell_audit(trail: Trail, decided: Decided) -> None:
    """From the decision on: recorded one by one, all else in batches, as it comes."""
    audit = OpenCalls(MeteredAudit(trail, CollectorRegistry()), 2 * CALLS)
    receiver = AccessLogReceiver(audit)
    rounds = [one_round(trail, audit, receiver, *decided) for _ in range(ROUNDS)]
    for part in rounds[0]:
        tell(part, min(each[part] for each in rounds))


def one_round(
    trail: Trail, audit: OpenCalls, receiver: AccessLogReceiver, asked: Asked, decision: Decision
) -> dict[str, float]:
    """Costs of `CALLS` calls, by part."""
    unnamed = [replace(decision, id="") for _ in range(CALLS)]
    decisions: list[Decision] = []
    record = cpu(lambda: [decisions.extend(audit.record([(asked, each)])) for each in unnamed])
    answer = cpu(lambda: [to_response(each) for each in decisions])
    lines = log(decisions)
    join = cpu(lambda: receiver.take(lines))
    entries = trail.backlog.take(CALLS)
    write = cpu(lambda: [trail.encoder.encode(each) for each in entries])
    return {
        "id, sequence, queue, metrics": record,
        "answer": answer,
        "outcome from Envoy's log, joined and counted": join,
        "event written as JSON": write,
    }


def worst_body() -> bytes:
    """As costly as the limits of a body let it be, in 4 MB."""
    members = b",".join(b'"%x":1e300' % (i * 2654435761 % 2**32) for i in range(LIMITS.members - 8))
    lists = b",[]" * (LIMITS.elements - LIMITS.members)
    text = b"[1," * 1_100_000
    return (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"list","arguments":'
        b'{"a":[%b,{%b}%b],"b":"%b"}}}' % (b"9" * 60, members, lists, text)
    )


def message() -> bytes:
    """The benchmark's call as Envoy sends it to Check."""
    head, _, body = request(ALLOWED).partition(b"\r\n\r\n")
    made = CheckRequest()
    made.attributes.source.address.socket_address.address = "127.0.0.1"
    http = made.attributes.request.http
    http.method, http.path, http.host, http.scheme = "POST", "/mcp", "127.0.0.1", "http"
    http.raw_body = body
    lines = [line.partition(": ") for line in head.decode().splitlines()[1:]]
    lines.append(("x-request-id", "", "3e5bd5d1-958e-4391-9408-ff65cba81ae7"))
    lines.append(("x-envoy-auth-partial-body", "", "false"))
    for name, _, value in lines:
        if name.lower() not in WITHHELD:
            http.header_map.headers.add(key=name.lower(), raw_value=value.encode())
    return made.SerializeToString()


def log(decisions: Sequence[Decision]) -> bytes:
    """Envoy's access log about their calls."""
    made = ExportLogsServiceRequest()
    records = made.resource_logs.add().scope_logs.add().log_records
    for decision in decisions:
        records.add(time_unix_nano=1, body={"string_value": f"{decision.id} 200 1861 1 211 91 -"})
    return made.SerializeToString()


def new_id() -> str:
    return str(uuid_utils.uuid7())


def cost(*steps: Callable[[], object]) -> float:
    """Microseconds of CPU that all steps take, one after the other."""

    def calls() -> None:
        for _ in range(CALLS):
            for step in steps:
                step()

    return min(cpu(calls) for _ in range(ROUNDS))


def once(step: Callable[[], object]) -> float:
    """Microseconds of CPU of a slow step, done a few times only."""
    return CALLS * min(cpu(step) for _ in range(ROUNDS // 10))


def cpu(calls: Callable[[], object]) -> float:
    """Microseconds of CPU for one of `CALLS` calls."""
    begin = time.process_time_ns()
    calls()
    return (time.process_time_ns() - begin) / 1e3 / CALLS


def tell(part: str, microseconds: float) -> None:
    print(f"{microseconds:6.1f} µs  {part}")


if __name__ == "__main__":
    sys.exit(main())
