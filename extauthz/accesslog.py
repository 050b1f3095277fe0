"""Envoy's access log, read into the outcomes of decisions.

It comes as OpenTelemetry logs: one line for each decided call, of what an outcome needs and no
more (`envoy_bootstrap/logs.py` writes it so). Envoy's own gRPC access log says six times as much.
"""

import logging

from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from extauthz.core.events import Outcome
from extauthz.ports import Audit

SERVICE = "opentelemetry.proto.collector.logs.v1.LogsService"
METHOD = "Export"
_UNSET = "-"  # Envoy's word for what it does not know

_log = logging.getLogger(__name__)


class AccessLogReceiver:
    """Takes Envoy's access log; each line becomes an outcome.

    What never reached Check is not in it: that comes from Envoy's file log.

    Attributes:
        joined: lines taken.
        unreadable: lines that are none of the sidecar's own bootstrap.
    """

    def __init__(self, audit: Audit) -> None:
        self._audit = audit
        self.joined = self.unreadable = 0

    def take(self, message: bytes) -> None:
        """Take one message: all lines since the last.

        Raises:
            google.protobuf.message.DecodeError: it is none.
        """
        unreadable = self.unreadable
        for resource in ExportLogsServiceRequest.FromString(message).resource_logs:
            for scope in resource.scope_logs:
                for record in scope.log_records:
                    self._take(record.body.string_value)
        if self.unreadable > unreadable:
            _log.error("envoy's access log cannot be read; run Envoy with the sidecar's bootstrap")

    def _take(self, line: str) -> None:
        try:
            decision_id, outcome = read_line(line)
        except ValueError:
            self.unreadable += 1
            return
        self.joined += 1
        self._audit.outcome(decision_id, outcome)


def read_line(line: str) -> tuple[str, Outcome]:
    """Read the decision id, and how its call ended.

    The line: decision id, status, microseconds to the last byte sent, milliseconds in all (of a
    call that was cut before anything was sent, the only ones), body bytes in and out, flags.

    Raises:
        ValueError: it is no such line.
    """
    decision_id, status, sent_us, all_ms, bytes_in, bytes_out, flags = line.split(" ")
    return decision_id, Outcome(
        status=int(status),
        latency_ms=float(all_ms) if sent_us == _UNSET else int(sent_us) / 1000,
        bytes_in=int(bytes_in),
        bytes_out=int(bytes_out),
        response_flags="" if flags == _UNSET else flags,
    )
