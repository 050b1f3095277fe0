"""What a topic that others made may be."""

from dataclasses import replace
from uuid import UUID

import pytest

from backend.adapters.kafka_cluster import Topic
from backend.adapters.kafka_topic import check_topic
from extauthz.core.errors import Invalid
from tests.tools.kafka_broker import settings_of

SETTINGS = replace(settings_of("127.0.0.1:1", "events"), replication=3, retention_seconds=3600)
TOPIC = Topic(UUID(int=1), partitions=1, replicas=3, has_leaders=True)
GOOD = {"cleanup.policy": "delete", "min.insync.replicas": "2", "retention.ms": "3600000"}


@pytest.mark.parametrize("policy", ["compact", "compact,delete"])
def test_a_compacted_topic_stops_the_start(policy: str) -> None:
    """Its records have the gateway's start as key: one event of each would stay."""
    with pytest.raises(Invalid, match=r"KAFKA_TOPIC: .*set its cleanup.policy to delete"):
        check_topic(SETTINGS, TOPIC, GOOD | {"cleanup.policy": policy})


@pytest.mark.parametrize(
    ("replicas", "change", "said"),
    [
        (3, {"min.insync.replicas": "1"}, "set it to 2"),
        (1, {"min.insync.replicas": "1"}, "has 1 copies"),
        (3, {"retention.ms": "1000"}, "raise it, or lower EVENT_LOG_RETENTION_HOURS"),
    ],
)
def test_what_makes_a_loss_likelier_is_said(
    caplog: pytest.LogCaptureFixture, replicas: int, change: dict[str, str], said: str
) -> None:
    """It is somebody's choice; the log says what it means, and the mend."""
    check_topic(SETTINGS, replace(TOPIC, replicas=replicas), GOOD | change)
    (record,) = caplog.records
    assert said in str(record.__dict__["error"])


@pytest.mark.parametrize("kept", ["-1", "3600000", "7200000"])
def test_a_good_topic_says_nothing(caplog: pytest.LogCaptureFixture, kept: str) -> None:
    """It keeps records as long as is wanted, or for ever."""
    check_topic(SETTINGS, TOPIC, GOOD | {"retention.ms": kept})
    assert caplog.records == []


def test_what_may_not_be_read_is_said(caplog: pytest.LogCaptureFixture) -> None:
    """Brokers need not let us ask."""
    check_topic(SETTINGS, TOPIC, {})
    assert "allow DescribeConfigs" in caplog.text
