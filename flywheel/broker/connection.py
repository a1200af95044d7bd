"""Opens connections to the brokers: tells whether any listens, and makes clients that leave nothing behind on failure.

It sends and asks nothing. The other modules of this room do.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from flywheel.settings.load import Kafka

CONNECT_MS = 5_000


class BrokerUnavailable(ConnectionError):  # noqa: N818 - it reads as what it says
    """No broker answers in time. The message names the address, the cause and the fix."""


class MessageTooLarge(BrokerUnavailable):
    """A message that its topic does not take, however often it is sent."""

    too_large = True


def probe(settings: Kafka, timeout_s: float = 2.0) -> None:
    """Open a connection to any of the configured brokers, and close it.

    Raises:
        BrokerUnavailable: none of them listens.
    """
    problems = []
    for server in settings.client_settings()["bootstrap_servers"]:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout_s).close()
        except (OSError, ValueError) as error:
            problems.append(f"{server}: {error}")
        else:
            return
    raise BrokerUnavailable(
        f"no Kafka broker answers ({'; '.join(problems) or 'kafka.bootstrap is empty'}); "
        "start one (scripts/kafka start) or set kafka.bootstrap"
    )


def connected(client: Callable[..., Any], settings: Kafka, **options: Any) -> Any:
    """A client of the library. If its constructor fails, the threads that it leaves running are ended here."""
    from kafka.errors import KafkaError
    from kafka.net.compat import KafkaNetClient

    probe(settings)  # first, because each failed constructor of the library leaves a thread
    opened: list[Any] = []

    def remember(**configs: Any) -> Any:
        opened.append(KafkaNetClient(**configs))
        return opened[-1]

    try:
        return client(**settings.client_settings(), bootstrap_timeout_ms=CONNECT_MS, kafka_client=remember, **options)
    except KafkaError as error:
        for leftover in opened:
            leftover.close()
            leftover._net.stop(1_000)  # the library has no public way to end its own thread
        raise BrokerUnavailable(
            settings.refusal(error)
            or f"the broker at {settings.bootstrap} does not let us in ({error}); check [kafka] security settings"
        ) from error
