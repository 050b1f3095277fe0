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

from extauthz import accesslog
from extauthz.core.events import Outcome
from protos.gen.external_auth_pb2 import CheckRequest, CheckResponse
from protos.gen.external_auth_pb2_grpc import (
    AuthorizationServicer,
    add_AuthorizationServicer_to_server,
)
from tests.tools.waiting import SECONDS

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


class DecisionStub(AuthorizationServicer):
    """Check and the access log's service.

    Attributes:
        answer: what Check does; a decision id is added to it.
        asked: every CheckRequest so far.
        decisions: the decision ids given out, in the same order.
        outcomes: how decisions ended by the access log, so far.
    """

    def __init__(self) -> None:
        self.answer: Answer = allow
        self.asked: list[CheckRequest] = []
        self.decisions: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self._arrived = threading.Condition()

    def reset(self) -> None:
        """Forget, and allow again."""
        self.answer = allow
        for seen in (self.asked, self.decisions, self.outcomes):
            seen.clear()

    def Check(self, request: CheckRequest, context: grpc.ServicerContext) -> CheckResponse:  # noqa: N802
        self.asked.append(request)
        answer = self.answer(request)
        self.decisions.append(str(uuid.uuid4()))
        answer.dynamic_metadata.update({"decision_id": self.decisions[-1]})
        return answer

    def outcome(self, decision_id: str, outcome: Outcome) -> None:
        with self._arrived:
            self.outcomes[decision_id] = outcome
            self._arrived.notify_all()

    def outcome_of(self, decision_id: str, seconds: float = SECONDS) -> Outcome:
        """Wait for the access log's line about a decision."""
        with self._arrived:
            outcome = self._arrived.wait_for(lambda: self.outcomes.get(decision_id), seconds)
        assert outcome, f"the access log says nothing about decision {decision_id}"
        return outcome


@contextmanager
def serving(stub: DecisionStub, socket: Path) -> Iterator[DecisionStub]:
    """Serve on a Unix socket."""
    receiver = accesslog.AccessLogReceiver(stub)

    def export(message: bytes, _: grpc.ServicerContext) -> bytes:
        receiver.take(message)
        return b""

    server = grpc.server(
        ThreadPoolExecutor(8), options=[("grpc.max_receive_message_length", MESSAGE_BYTES)]
    )
    add_AuthorizationServicer_to_server(stub, server)
    log = {accesslog.METHOD: grpc.unary_unary_rpc_method_handler(export)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(accesslog.SERVICE, log)])
    server.add_insecure_port(f"unix:{socket}")
    server.start()
    try:
        yield stub
    finally:
        server.stop(0).wait()
