"""Administers the brokers: topics, cluster id, end offsets and lag. It sends and consumes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from flywheel.broker.connection import CONNECT_MS, BrokerUnavailable, connected
from flywheel.settings.load import Kafka

if TYPE_CHECKING:
    from kafka import KafkaAdminClient


def ensure_topics(settings: Kafka, names: Iterable[str], partitions: int = 1) -> list[str]:
    """Create those of `names` that are missing, with the cluster's own replication. Returns the names created.

    Raises:
        BrokerUnavailable: no broker answers, or it does not create them.
    """
    with _admin(settings) as admin:
        missing = sorted(set(names) - set(admin.list_topics()))
        if missing:
            answer = admin.create_topics(
                {name: {"num_partitions": partitions, "replication_factor": -1} for name in missing},  # -1: its default
                timeout_ms=CONNECT_MS,
                raise_errors=False,
            )
            _check_created(answer["topics"])
            admin.wait_for_topics(missing, timeout_ms=2 * CONNECT_MS)
        return missing


def cluster_id(settings: Kafka) -> str:
    """The id of the cluster that answers now.

    Raises:
        BrokerUnavailable: none does.
    """
    with _admin(settings) as admin:
        return str(admin.describe_cluster()["cluster_id"])


def end_offsets(settings: Kafka, topics: Iterable[str]) -> dict[tuple[str, int], int]:
    """For each partition of `topics`, the offset of the next message. Wrong on the embedded broker."""
    from kafka import OffsetSpec, TopicPartition

    with _admin(settings) as admin:
        wanted = {
            TopicPartition(topic["name"], partition["partition_index"]): OffsetSpec.LATEST
            for topic in admin.describe_topics(list(topics))
            for partition in topic.get("partitions") or []
        }
        ends = admin.list_partition_offsets(wanted) if wanted else {}
        return {(where.topic, where.partition): int(answer.offset) for where, answer in ends.items()}


def lag(settings: Kafka, topics: Iterable[str], next_offsets: Mapping[tuple[str, int], int]) -> int:
    """Messages in `topics` that are not read yet. `next_offsets` says where reading goes on."""
    ends = end_offsets(settings, topics)
    return sum(max(0, end - next_offsets.get(where, 0)) for where, end in ends.items())


def _check_created(topics: Iterable[Mapping[str, Any]]) -> None:
    exists = 36  # TOPIC_ALREADY_EXISTS: another process was faster
    failed = [f"{t['name']}: {t.get('error_message') or t['error_code']}" for t in topics if t["error_code"]]
    if any(t["error_code"] not in {0, exists} for t in topics):
        raise BrokerUnavailable(f"the broker does not create topics ({'; '.join(failed)}); create them by hand")


@contextmanager
def _admin(settings: Kafka) -> Iterator[KafkaAdminClient]:
    from kafka import KafkaAdminClient
    from kafka.errors import KafkaError

    try:
        admin = connected(KafkaAdminClient, settings, request_timeout_ms=2 * CONNECT_MS)
        try:
            yield admin
        finally:
            admin.close()
    except KafkaError as error:
        raise BrokerUnavailable(
            settings.refusal(error) or f"the broker at {settings.bootstrap} failed: {error}"
        ) from error
