"""From Envoy's access log to outcomes."""

import pytest
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from extauthz.accesslog import AccessLogReceiver, read_line
from extauthz.core.events import Outcome


class Outcomes:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Outcome]] = []

    def outcome(self, decision_id: str, outcome: Outcome) -> None:
        self.taken.append((decision_id, outcome))


def message(*scopes: list[str]) -> bytes:
    """Lines as Envoy sends them."""
    made = ExportLogsServiceRequest()
    for lines in scopes:
        scope = made.resource_logs.add().scope_logs.add()
        for line in lines:
            scope.log_records.add(time_unix_nano=1, body={"string_value": line})
    return made.SerializeToString()


def line(decision_id: str) -> str:
    return f"{decision_id} 200 1250500 1251 70 245 -"


def test_each_line_reaches_its_decision() -> None:
    """All lines of all messages, in order."""
    outcomes = Outcomes()
    receiver = AccessLogReceiver(outcomes)
    receiver.take(message([line("a"), line("b")], [line("c")]))
    receiver.take(message())
    receiver.take(message([line("d")]))
    assert [decision for decision, _ in outcomes.taken] == ["a", "b", "c", "d"]
    assert (receiver.joined, receiver.unreadable) == (4, 0)


@pytest.mark.parametrize("odd", ["", "a 200", "a x 1 1 1 1 -", "a - 1 1 1 1 -", line("a") + " x"])
def test_a_line_of_another_kind_stops_no_other(odd: str, caplog: pytest.LogCaptureFixture) -> None:
    """It is counted, and said once a message."""
    outcomes = Outcomes()
    receiver = AccessLogReceiver(outcomes)
    receiver.take(message([odd, odd, line("b")]))
    assert [decision for decision, _ in outcomes.taken] == ["b"]
    assert (receiver.joined, receiver.unreadable) == (1, 2)
    assert caplog.text.count("run Envoy with the sidecar's bootstrap") == 1


def test_what_is_no_message_is_refused() -> None:
    """Nothing of it counts."""
    receiver = AccessLogReceiver(Outcomes())
    with pytest.raises(DecodeError):
        receiver.take(b"\xff\xff")
    assert receiver.joined == 0


def test_outcome_of_a_call() -> None:
    """Status, milliseconds to the last byte sent, body bytes, no flags."""
    assert read_line(line("a")) == ("a", Outcome(200, 1250.5, 70, 245, ""))


def test_a_call_that_was_cut_has_its_duration() -> None:
    """Nothing was sent: status 0, and the time until the end."""
    assert read_line("a 0 - 2000 70 0 DC,UH") == ("a", Outcome(0, 2000.0, 70, 0, "DC,UH"))
