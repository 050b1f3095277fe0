"""Where a consumer begins to read partitions that came to it."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import NamedTuple
from uuid import UUID

from aiokafka import AIOKafkaConsumer, TopicPartition

from backend.adapters.kafka_client import KafkaSettings, translated
from backend.adapters.kafka_cluster import Committed, KafkaCluster

_log = logging.getLogger(__name__)


class Beginning(NamedTuple):
    """Of one partition.

    Args:
        topic_id: of the topic that has the name now.
        committed: the offset to name to the owner; 0 where none counts.
        first: the offset to read first.
    """

    topic_id: UUID
    committed: int
    first: int


async def beginnings(
    client: AIOKafkaConsumer,
    settings: KafkaSettings,
    cluster: KafkaCluster,
    group: str,
    arrived: Sequence[TopicPartition],
) -> Mapping[TopicPartition, Beginning]:
    """At what `group` committed, or at the first record.

    Raises: Retryable.
    """
    if not arrived:
        return {}
    topic = await cluster.topic(settings.topic)
    numbers = [partition.partition for partition in arrived]
    committed = await cluster.committed(group, settings.topic, numbers)
    with translated("the bounds of the event log cannot be read"):
        async with asyncio.timeout(settings.timeout_seconds):
            begins = await client.beginning_offsets(list(arrived))
            ends = await client.end_offsets(list(arrived))
    return {
        each: _beginning(topic.topic_id, committed.get(each.partition), begins[each], ends[each])
        for each in arrived
    }


def _beginning(topic_id: UUID, committed: Committed | None, begin: int, end: int) -> Beginning:
    if committed is None or committed.note not in {"", str(topic_id)}:
        # It was never read, or it is of a topic that had this name before.
        return Beginning(topic_id, 0, begin)
    if begin <= committed.offset <= end:
        return Beginning(topic_id, committed.offset, committed.offset)
    # What was not read is gone, or the log has lost its end: both are news.
    _log.error(
        "the committed offset is not in the log any more; reading from its first record",
        extra={"committed": committed.offset, "first": begin, "end": end},
    )
    return Beginning(topic_id, 0, begin)
