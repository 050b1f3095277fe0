"""Whether a topic that others made keeps what ingest promises."""

import logging
from collections.abc import Iterator, Mapping

from backend.adapters.kafka_client import KafkaSettings
from backend.adapters.kafka_cluster import Topic
from extauthz.core.errors import Invalid

_log = logging.getLogger(__name__)


def check_topic(settings: KafkaSettings, topic: Topic, configured: Mapping[str, str]) -> None:
    """Refuse a topic that drops events by their key; warn of what makes a loss likelier.

    Args:
        configured: what the brokers say; empty where they do not let us ask.

    Raises:
        Invalid: it is compacted.
    """
    if "compact" in configured.get("cleanup.policy", ""):
        problem = f"`{settings.topic}` is compacted: of each gateway only the last event would stay"
        raise Invalid("KAFKA_TOPIC", problem, "set its cleanup.policy to delete, or name another")
    if not configured:
        _log.warning(
            "the topic's configuration cannot be read; allow DescribeConfigs on it",
            extra={"topic": settings.topic},
        )
    for doubt in _doubts(settings, topic, configured):
        _log.warning("the topic keeps less than it could", extra={"error": doubt})


def _doubts(settings: KafkaSettings, topic: Topic, configured: Mapping[str, str]) -> Iterator[str]:
    name, least = settings.topic, int(configured.get("min.insync.replicas", topic.replicas))
    if topic.replicas < settings.replication:
        yield (
            f"`{name}` has {topic.replicas} copies, and KAFKA_REPLICATION is "
            f"{settings.replication}; add replicas, or set what it has"
        )
    if topic.replicas > 1 and least < 2:
        yield (
            f"min.insync.replicas of `{name}` is {least}: an event may be answered that one broker "
            f"alone has; set it to {topic.replicas - 1 if topic.replicas > 2 else 2}"
        )
    kept_ms, wanted_ms = int(configured.get("retention.ms", -1)), settings.retention_seconds * 1000
    if 0 <= kept_ms < wanted_ms:
        yield (
            f"retention.ms of `{name}` is {kept_ms}, less than {int(wanted_ms)}: events that wait "
            "longer for the processor are lost; raise it, or lower EVENT_LOG_RETENTION_HOURS"
        )
