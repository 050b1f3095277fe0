"""A decision point for tests of Envoy alone: answers as told, remembers what it was told.

It is a stand-in for the answer only; the gRPC server and the messages are real.
"""

import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc

from protos.gen.access_log_data_pb2 import HTTPAccessLogEntry
from protos.gen.access_log_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from protos.gen.access_log_pb2_grpc import (
    AccessLogServiceServicer,
    add_AccessLogServiceServicer_to_server,
)
from protos.gen.external_auth_pb2 import CheckRequest, CheckResponse
from protos.gen.external_auth_pb2_grpc import (
    AuthorizationServicer,
    add_AuthorizationServicer_to_server,
)

Answer = Callable[[CheckRequest], CheckResponse]
MESSAGE_BYTES = 8 << 20


def allow(_: CheckRequest) -> CheckResponse:
    """Let it pass, with a decision id."""
    answer = CheckResponse()
    answer.ok_response.SetInParent()
    return answer


def deny(status: int, body: str) -> Answer:
    """Deny with an HTTP status and a body."""

    def answer(_: CheckRequest) -> CheckResponse:
        denied = CheckResponse()
        denied.status.code = grpc.StatusCode.PERMISSION_DENIED.value[0]
        denied.denied_response.status.code = status
        denied.denied_response.body = body
        header = denied.denied_response.headers.add().header
        header.key, header.value = "content-type", "application/json"
        return denied

    return answer


class DecisionStub(AuthorizationServicer, AccessLogServiceServicer):
    """Check and the access log service.

    Attributes:
        answer: what Check does; a decision id is added to it.
        asked: every CheckRequest so far.
        decisions: the decision ids given out, in the same order.
        entries: every access log entry so far.
    """

    def __init__(self) -> None:
        self.answer: Answer = allow
        self.asked: list[CheckRequest] = []
        self.decisions: list[str] = []
        self.entries: list[HTTPAccessLogEntry] = []
        self._arrived = threading.Condition()

    def reset(self) -> None:
        """Forget, and allow again."""
        self.answer = allow
        for seen in (self.asked, self.decisions, self.entries):
            seen.clear()

    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResponse:
        self.asked.append(request)
        answer = self.answer(request)
        self.decisions.append(str(uuid.uuid4()))
        answer.dynamic_metadata.update({"decision_id": self.decisions[-1]})
        return answer

    def StreamAccessLogs(
        self, request_iterator: Iterator[StreamAccessLogsMessage], context: grpc.ServicerContext
    ) -> StreamAccessLogsResponse:
        for message in request_iterator:
            with self._arrived:
                self.entries.extend(message.http_logs.log_entry)
                self._arrived.notify_all()
        return StreamAccessLogsResponse()

    def entry_of(self, decision_id: str, seconds: float = 10.0) -> HTTPAccessLogEntry:
        """Wait for the access log entry that carries a decision id."""

        def found() -> HTTPAccessLogEntry | None:
            return next((e for e in self.entries if decision_of(e) == decision_id), None)

        with self._arrived:
            entry = self._arrived.wait_for(found, seconds)
        assert entry, f"no access log entry for decision {decision_id}"
        return entry


def decision_of(entry: HTTPAccessLogEntry) -> str:
    """The decision id in an access log entry; empty when there is none."""
    metadata = entry.common_properties.metadata.filter_metadata
    fields = metadata["envoy.filters.http.ext_authz"].fields
    return fields["decision_id"].string_value if "decision_id" in fields else ""


@contextmanager
def serving(stub: DecisionStub, socket: Path) -> Iterator[DecisionStub]:
    """Serve on a Unix socket; a pool of threads, as one access log stream holds one."""
    server = grpc.server(
        ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", MESSAGE_BYTES)]
    )
    add_AuthorizationServicer_to_server(stub, server)
    add_AccessLogServiceServicer_to_server(stub, server)
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield stub
    finally:
        server.stop(0).wait()
