"""From Envoy's access log to outcomes."""

from collections.abc import AsyncIterator

import pytest

from extauthz.accesslog import EXT_AUTHZ, AccessLogReceiver, short_flags, to_outcome
from extauthz.core.events import Outcome
from protos.gen.access_log_data_pb2 import AccessLogType, HTTPAccessLogEntry, ResponseFlags
from protos.gen.access_log_pb2 import StreamAccessLogsMessage


class Outcomes:
    """Keeps what it is given."""

    def __init__(self) -> None:
        self.taken: list[tuple[str, Outcome]] = []

    def outcome(self, decision_id: str, outcome: Outcome) -> None:
        self.taken.append((decision_id, outcome))


def entry(decision_id: str = "", **common: object) -> HTTPAccessLogEntry:
    """An entry as Envoy writes it at the end of a call."""
    made = HTTPAccessLogEntry(
        common_properties={
            "time_to_last_downstream_tx_byte": {"seconds": 1, "nanos": 250_500_000},
            "duration": {"seconds": 2},
            **common,
        },
        request={"path": "/mcp", "request_id": "u-1", "request_body_bytes": 70},
        response={"response_code": {"value": 200}, "response_body_bytes": 245},
    )
    if decision_id:
        metadata = made.common_properties.metadata.filter_metadata[EXT_AUTHZ]
        metadata.fields["decision_id"].string_value = decision_id
    return made


async def stream(*batches: list[HTTPAccessLogEntry]) -> AsyncIterator[StreamAccessLogsMessage]:
    yield StreamAccessLogsMessage(identifier={"log_name": "mcp"})
    for batch in batches:
        yield StreamAccessLogsMessage(http_logs={"log_entry": batch})


async def receive(*batches: list[HTTPAccessLogEntry]) -> tuple[AccessLogReceiver, Outcomes]:
    outcomes = Outcomes()
    receiver = AccessLogReceiver(outcomes)
    await receiver.StreamAccessLogs(stream(*batches), None)
    return receiver, outcomes


async def test_each_entry_reaches_its_decision() -> None:
    """All entries of all batches, in order."""
    receiver, outcomes = await receive([entry("a"), entry("b")], [], [entry("c")])
    assert [decision for decision, _ in outcomes.taken] == ["a", "b", "c"]
    assert (receiver.joined, receiver.undecided) == (3, 0)


async def test_an_entry_without_decision_is_counted() -> None:
    """Nor is one counted as decided whose metadata is another filter's, or is empty."""
    other = entry()
    other.common_properties.metadata.filter_metadata["envoy.filters.http.mcp"].Clear()
    empty = entry()
    empty.common_properties.metadata.filter_metadata[EXT_AUTHZ].Clear()
    receiver, outcomes = await receive([entry(), other, empty])
    assert outcomes.taken == []
    assert (receiver.joined, receiver.undecided) == (0, 3)


@pytest.mark.parametrize("kind", [AccessLogType.DownstreamStart, AccessLogType.DownstreamPeriodic])
async def test_a_running_call_has_no_outcome_yet(kind: AccessLogType) -> None:
    """Entries written while a stream runs are passed over; its end is not."""
    end = entry("a", access_log_type=AccessLogType.DownstreamEnd)
    receiver, outcomes = await receive([entry("a", access_log_type=kind), end])
    assert len(outcomes.taken) == receiver.joined == 1


def test_outcome_of_a_call() -> None:
    """Status, milliseconds to the last byte sent, body bytes, no flags."""
    assert to_outcome(entry()) == Outcome(200, 1250.5, 70, 245, "")


def test_a_call_that_was_cut_has_its_duration() -> None:
    """Nothing was sent: status 0, and the time until the end."""
    cut = entry(response_flags={"downstream_connection_termination": True})
    cut.common_properties.ClearField("time_to_last_downstream_tx_byte")
    cut.ClearField("response")
    assert to_outcome(cut) == Outcome(0, 2000.0, 70, 0, "DC")


def test_flags_are_envoys_short_names() -> None:
    """Comma-separated; a denial by Check is UAEX."""
    flags = ResponseFlags(no_healthy_upstream=True, unauthorized_details={"reason": 1})
    assert short_flags(flags) == "UH,UAEX"
    assert short_flags(ResponseFlags()) == ""


def test_every_flag_has_a_short_name() -> None:
    """A flag without one would raise in the middle of a batch."""
    every = {
        name: {"reason": 1} if field.message_type else True
        for name, field in ResponseFlags.DESCRIPTOR.fields_by_name.items()
    }
    names = short_flags(ResponseFlags(**every)).split(",")
    assert len(set(names)) == len(every)
    assert all(name.isupper() for name in names)
