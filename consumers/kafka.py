"""Reads from Kafka: assigns partitions by hand, takes positions from outside, and notices when the broker is gone.

It joins no consumer group: the owner of the store reads everything. So a killed process leaves no session that its
successor must wait for, and two installations with one group name do not split the data between them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from consumers.batch import Message
from consumers.blocked import Blocked, in_words
from consumers.cluster import Metadata
from consumers.ingest import LogReset, Place, SourceUnavailable
from flywheel.settings.load import Kafka

if TYPE_CHECKING:
    from kafka import KafkaConsumer

log = logging.getLogger(__name__)

BOOTSTRAP_MS = 3_000
METADATA_MS = 2_000  # an answered refresh is the sign that the broker is alive
SILENCE_SECONDS = 8.0  # four refreshes of the metadata unanswered
DISCOVER_SECONDS = 5.0
COMMIT_SECONDS = 1.0  # commits serve lag monitoring only


class KafkaSource:
    """Reads all partitions of `topics`; fulfils `consumers.ingest.Source`."""

    def __init__(self, settings: Kafka, topics: Sequence[str], *, poll_ms: int = 500, gather_ms: int = 50) -> None:
        self._settings, self._topics = settings, tuple(topics)
        self._poll_ms, self._gather_ms = poll_ms, gather_ms
        self._consumer: KafkaConsumer | None = None
        self._positions: dict[Place, int] = {}
        self._fresh: set[Place] = set()
        self._uncommitted: dict[Place, int] = {}
        self._next_commit = self._next_discovery = 0.0
        self._postponed: Exception | None = None
        self._metadata = Metadata(self._topics)
        self._cluster_id = ""
        self._topic_ids: dict[str, object] = {}
        self._blocked = Blocked()

    def connect(self) -> str:
        """Reach the broker; returns the id of its cluster.

        Raises:
            SourceUnavailable: no broker answers.
        """
        from kafka.errors import KafkaError

        self.close()
        try:
            self._consumer = consumer = self._open()
            for topic in self._topics:
                consumer.partitions_for_topic(topic)  # asks the broker, so that one that is away fails here
        except KafkaError as error:
            self.close()
            away = f"no broker answers at {self._settings.bootstrap} ({error})"
            raise SourceUnavailable(f"{self._settings.refusal(error) or away}; retrying") from error
        self._metadata.note(consumer._cluster)
        consumer._cluster.add_listener(self._metadata.note)
        self._cluster_id = self._metadata.cluster_id
        return self._cluster_id

    def assign(self, offsets: Mapping[Place, int]) -> None:
        """Read every partition, present and future: each from its offset here, or else from its beginning."""
        self._positions, self._fresh = dict(offsets), set()
        self._topic_ids = self._metadata.topic_ids
        self._postponed = None
        self._blocked = Blocked()
        self._discover(anew=True)

    def poll(self) -> Mapping[Place, Sequence[Message]]:
        """The messages since the last poll, after a short wait; empty if there are none.

        Raises:
            LogReset: an offset lies outside its log, or a topic was made anew.
            SourceUnavailable: the broker has been silent for too long, or is another cluster now.
        """
        if self._postponed is not None:
            problem, self._postponed = self._postponed, None
            raise problem
        if time.monotonic() >= self._next_discovery:
            self._discover()
            self._look_at_blocked()
        gathered = self._gather()
        self._check_identity()  # after the poll, so that another cluster's messages are thrown away, not stored
        for place, messages in gathered.items():
            self._positions[place] = messages[-1].offset + 1
            self._fresh.discard(place)
        if not gathered:
            self._commit_now_and_then()
            self._check_silence()
        return gathered

    def commit(self, offsets: Mapping[Place, int]) -> None:
        """Tell Kafka how far the store is; at most once a second, and failures do not matter."""
        self._uncommitted |= offsets
        self._commit_now_and_then()

    def lag(self) -> int | None:
        """Messages that the broker has and that are not read yet; None before it named any log's end.

        The client's own position counts, because it also moves over what is no message: the markers of transactions.
        """
        unread = self.lags()
        return sum(unread.values()) if unread else None

    def lags(self) -> dict[Place, int]:
        """The same by partition, for those whose end the broker has named. Another thread may ask."""
        from kafka import TopicPartition

        if self._consumer is None:
            return {}
        return {
            place: max(0, end - max(position, self._reached(TopicPartition(*place))))
            for place, position in dict(self._positions).items()
            if (end := self._high_water(TopicPartition(*place))) is not None
        }

    def blocked(self) -> Mapping[Place, str]:
        """Partitions that stand still, because what lies there cannot be unpacked, and why; the others go on."""
        return self._blocked.reasons

    def close(self) -> None:
        """Close the connection. Harmless when not connected."""
        consumer, self._consumer = self._consumer, None
        if consumer is None:
            return
        from kafka.errors import KafkaError

        try:
            if self._uncommitted and not self._metadata.silent(METADATA_MS / 1_000):
                consumer.commit(_committable(self._uncommitted), timeout_ms=1_000)
        except KafkaError as error:
            log.debug("last commit: %s", error)
        self._uncommitted = {}
        self._postponed = None
        consumer.close(autocommit=False, timeout_ms=1_000)

    def _open(self) -> KafkaConsumer:
        from kafka import KafkaConsumer
        from kafka.errors import KafkaError
        from kafka.net.compat import KafkaNetClient

        opened: list[Any] = []

        def remember(**configs: Any) -> Any:
            opened.append(KafkaNetClient(**configs))
            return opened[-1]

        try:
            return KafkaConsumer(
                **self._settings.client_settings(),
                group_id=self._settings.group,
                enable_auto_commit=False,  # offsets live in the store
                auto_offset_reset="none",  # a lost offset must be noticed, not skipped
                isolation_level="read_committed",
                allow_auto_create_topics=False,  # `flywheel.broker.admin.ensure_topics` makes them
                max_poll_records=self._settings.max_poll_records,
                bootstrap_timeout_ms=BOOTSTRAP_MS,
                metadata_max_age_ms=METADATA_MS,
                reconnect_backoff_max_ms=1_000,
                request_timeout_ms=10_000,
                fetch_max_wait_ms=min(500, self._poll_ms),
                kafka_client=remember,
            )
        except KafkaError:
            for leftover in opened:  # each failed constructor leaves a thread behind
                leftover.close()
                leftover._net.stop(1_000)
            raise

    def _connected(self) -> KafkaConsumer:
        if self._consumer is None:
            raise SourceUnavailable("not connected")
        return self._consumer

    def _discover(self, *, anew: bool = False) -> None:
        """Add partitions that appeared since; the others keep their positions."""
        from kafka import TopicPartition
        from kafka.errors import KafkaError

        consumer = self._connected()
        self._next_discovery = time.monotonic() + DISCOVER_SECONDS
        try:
            places = {
                (topic, partition) for topic in self._topics for partition in consumer.partitions_for_topic(topic)
            }
            if not anew and places == {tuple(place) for place in consumer.assignment()}:
                return
            self._fresh |= places - self._positions.keys()
            consumer.assign([TopicPartition(*place) for place in sorted(places)])
            for place in places:
                consumer.seek(TopicPartition(*place), self._positions.setdefault(place, 0))
            # who was killed before telling the broker how far it came is made good for, also if nothing more comes
            self._uncommitted |= {place: self._positions[place] for place in places - self._fresh}
        except KafkaError as error:
            raise SourceUnavailable(f"the broker at {self._settings.bootstrap} failed: {error}") from error
        log.info("reading %s", ", ".join(f"{topic}/{partition}" for topic, partition in sorted(places)) or "nothing")

    def _gather(self) -> dict[Place, list[Message]]:
        """Polls for up to `gather_ms` after the first message: fewer, larger transactions."""
        from kafka.errors import KafkaError

        consumer, room = self._connected(), self._settings.max_poll_records
        gathered: dict[Place, list[Message]] = {}
        wait_ms, deadline = self._poll_ms, 0.0
        while room > 0:
            try:
                polled = consumer.poll(timeout_ms=wait_ms, max_records=room)
            except Exception as error:
                if self._block(error):
                    continue
                if not isinstance(error, KafkaError):
                    raise
                problem = self._interpret(error)
                if problem is None:
                    continue
                if not gathered:
                    raise problem from error
                self._postponed = problem  # the next poll raises it, so that the messages before it are not lost
                break
            for place, messages in polled.items():
                gathered.setdefault((place.topic, place.partition), []).extend(messages)
                self._blocked.read((place.topic, place.partition))
                room -= len(messages)
            now = time.monotonic()
            if not gathered or (deadline and now >= deadline):
                break
            deadline = deadline or now + self._gather_ms / 1_000
            wait_ms = max(0, int((deadline - now) * 1_000))
        return gathered

    def _block(self, error: Exception) -> bool:
        """Leave out the partition whose messages cannot be unpacked; False where the error is another one."""
        from kafka.errors import CorruptRecordError, KafkaError, UnsupportedCodecError

        if isinstance(error, KafkaError) and not isinstance(error, CorruptRecordError | UnsupportedCodecError):
            return False
        return self._blocked.block(self._connected(), in_words(error))

    def _look_at_blocked(self) -> None:
        from kafka.errors import KafkaError

        try:
            self._blocked.look(self._connected())
        except KafkaError as error:
            raise SourceUnavailable(f"the broker at {self._settings.bootstrap} failed: {error}") from error

    def _interpret(self, error: Exception) -> Exception | None:
        """What the library's error means for the reader; None where reading just goes on."""
        from kafka.errors import KafkaError, LogTruncationError, OffsetOutOfRangeError

        if not isinstance(error, OffsetOutOfRangeError | LogTruncationError):
            return SourceUnavailable(f"the broker at {self._settings.bootstrap} failed: {error}")
        wanted = error.args[0] if error.args and isinstance(error.args[0], dict) else {}
        places = [(place.topic, place.partition) for place in wanted]
        try:
            earliest = self._earliest(places)
        except KafkaError as failure:
            return SourceUnavailable(f"the broker at {self._settings.bootstrap} failed: {failure}")
        if earliest.keys() <= self._fresh:
            self._skip_to(earliest)
            return None
        return self._reset(earliest, truncated=isinstance(error, LogTruncationError))

    def _skip_to(self, earliest: Mapping[Place, int]) -> None:
        """Start at `earliest` in logs that were never read and whose beginning is gone: no progress is lost."""
        from kafka import TopicPartition

        for place, offset in earliest.items():
            log.warning("%s/%d begins at %d by now; what was before it is gone", *place, offset)
            self._positions[place] = offset
            self._connected().seek(TopicPartition(*place), offset)

    def _reset(self, earliest: Mapping[Place, int], *, truncated: bool) -> Exception:
        # a log that lacks an offset, although it begins at or below it, is not the log that was read
        read = {place: first for place, first in earliest.items() if place not in self._fresh}
        rewound = bool(read) and (truncated or any(first <= self._positions.get(p, 0) for p, first in read.items()))
        shown = ", ".join(
            f"{topic}/{partition} wanted {self._positions.get((topic, partition), 0)}, begins at {first}"
            for (topic, partition), first in sorted(earliest.items())
        )
        if rewound:
            reason = f"the log is not the one that was read (cut or made anew); reading it from its start: {shown}"
        else:
            reason = f"messages were deleted by the broker before they were read, and are lost: {shown}"
        return LogReset(reason, earliest, rewound=rewound)

    def _earliest(self, places: Sequence[Place]) -> dict[Place, int]:
        from kafka import TopicPartition

        beginnings = self._connected().beginning_offsets([TopicPartition(*place) for place in places], timeout_ms=5_000)
        return {(place.topic, place.partition): int(offset) for place, offset in beginnings.items()}

    def _check_identity(self) -> None:
        """Raise where a log of the same name is another one: a new cluster, or a topic deleted and made again."""
        metadata = self._metadata
        if metadata.cluster_id != self._cluster_id:
            raise SourceUnavailable(f"the broker is cluster {metadata.cluster_id} now; connecting anew")
        seen = metadata.topic_ids
        anew = {topic for topic, topic_id in seen.items() if self._topic_ids.get(topic, topic_id) != topic_id}
        self._topic_ids |= seen
        if anew:
            raise LogReset(
                f"topic {', '.join(sorted(anew))} was deleted and made again; reading it from its start",
                {place: 0 for place in self._positions if place[0] in anew},
                rewound=True,
            )

    def _check_silence(self) -> None:
        if self._metadata.silent(SILENCE_SECONDS):
            raise SourceUnavailable(
                f"the broker at {self._settings.bootstrap} has not answered for {SILENCE_SECONDS:.0f} s; retrying"
            )

    def _commit_now_and_then(self) -> None:
        now = time.monotonic()
        if self._uncommitted and now >= self._next_commit:
            self._next_commit = now + COMMIT_SECONDS
            self._connected().commit_async(_committable(self._uncommitted))
            self._uncommitted = {}

    def _high_water(self, place: Any) -> int | None:
        consumer = self._consumer
        if consumer is None or place not in consumer.assignment():
            return None
        end = self._blocked.end((place.topic, place.partition)) or consumer.highwater(place)
        return None if end is None else int(end)

    def _reached(self, place: Any) -> int:
        # the public `position` asks the broker, and takes away errors that `poll` must see
        assigned = getattr(self._connected(), "_subscription", None)
        held = getattr(assigned, "assignment", {}).get(place)
        return int(getattr(getattr(held, "position", None), "offset", 0))


def _committable(offsets: Mapping[Place, int]) -> dict[Any, Any]:
    from kafka import OffsetAndMetadata, TopicPartition

    return {TopicPartition(*place): OffsetAndMetadata(offset) for place, offset in offsets.items()}
