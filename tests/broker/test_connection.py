"""Connections that fail say why, and which setting to mend."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
from kafka import errors

from flywheel.broker.connection import BrokerUnavailable, connected
from flywheel.settings.load import Kafka


@pytest.fixture
def listening() -> Iterator[Kafka]:
    """Somebody who listens, so that it is no broker that is away."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield Kafka(
            bootstrap=f"127.0.0.1:{server.getsockname()[1]}", security_protocol="SASL_PLAINTEXT", sasl_username="me",
            sasl_password="hidden",
        )  # fmt: skip


@pytest.mark.parametrize(
    ("error", "named"),
    [
        (errors.SaslAuthenticationFailedError("no"), r"kafka.sasl_username \(me\) or kafka.sasl_password is wrong"),
        (errors.UnsupportedSaslMechanismError("no"), r"kafka.sasl_mechanism \(PLAIN\) is not theirs"),
        (errors.ClusterAuthorizationFailedError("no"), "the user me may not do that"),
        (errors.KafkaTimeoutError("no"), r"check \[kafka\] security settings"),
    ],
)
def test_who_is_not_let_in_reads_which_setting_is_wrong(listening: Kafka, error: Exception, named: str) -> None:
    """By the error that the client's library raises in its constructor; the password itself is never shown."""

    def client(**_: Any) -> Any:
        raise error

    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=named) as told:
        connected(client, listening)
    assert time.monotonic() - began < 5
    assert "hidden" not in str(told.value)
