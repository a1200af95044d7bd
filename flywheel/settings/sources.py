"""The settings of where records come from: the broker, and records of another shape."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from flywheel.settings.sections import Section


class Kafka(Section):
    bootstrap: str = Field("127.0.0.1:9092", description="host:port of the brokers, comma separated")
    group: str = Field("flywheel", description="consumer group; for lag monitoring only, offsets live in the database")
    topic_queries: str = Field("ubi.queries", description="UBI queries, in")
    topic_events: str = Field("ubi.events", description="UBI events, in")
    topic_documents: str = Field("flywheel.documents", description="documents, in")
    topic_models: str = Field("flywheel.models", description="announcements of promotions and rollbacks, out")
    topic_dead_letters: str = Field("flywheel.dead-letters", description="messages that could not be read, out")
    max_poll_records: int = Field(5_000, ge=1, description="messages in one poll, and so in one transaction")
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="how to speak to the brokers"
    )
    ssl_cafile: Path | None = Field(None, description="certificate authority for SSL")
    ssl_certfile: Path | None = Field(None, description="client certificate (PEM), for brokers that ask for one")
    ssl_keyfile: Path | None = Field(None, description="its private key (PEM), where the certificate's file has none")
    ssl_password: str | None = Field(None, description="password of that key; better set in the environment")
    sasl_mechanism: str | None = Field(None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512")
    sasl_username: str | None = Field(None, description="SASL user")
    sasl_password: str | None = Field(None, description="SASL password; better set in the environment")

    @field_validator("bootstrap")
    @classmethod
    def _with_ports(cls, bootstrap: str) -> str:
        """Every broker has a port: without one the library takes another than people expect, or none."""
        servers = [server.strip() for server in bootstrap.split(",") if server.strip()]
        wrong = [server for server in servers if not server.rpartition(":")[2].isdigit() or ":" not in server]
        if wrong or not servers:
            host = (wrong or ["kafka"])[0].partition(":")[0] or "kafka"
            raise ValueError(f"{', '.join(wrong) or 'no broker'} needs host:port, such as {host}:9092")
        return bootstrap

    def refusal(self, error: BaseException) -> str | None:
        """What to mend where the brokers answer and do not let us in, by the class of the library's error; None where
        they are just away."""
        match type(error).__name__:
            case "SaslAuthenticationFailedError":
                wrong = f"kafka.sasl_username ({self.sasl_username}) or kafka.sasl_password is wrong"
            case "UnsupportedSaslMechanismError" | "IllegalSaslStateError":
                wrong = f"kafka.sasl_mechanism ({self.sasl_mechanism or 'PLAIN'}) is not theirs"
            case "ClusterAuthorizationFailedError" | "TopicAuthorizationFailedError" | "GroupAuthorizationFailedError":
                wrong = f"the user {self.sasl_username or 'of this connection'} may not do that there"
            case _:
                return None
        return f"the brokers at {self.bootstrap} answer, and do not let us in: {wrong} ({error})"

    def client_settings(self) -> dict[str, Any]:
        """The arguments of every Kafka client: the brokers' addresses and how to speak to them."""
        settings: dict[str, Any] = {
            "bootstrap_servers": [server.strip() for server in self.bootstrap.split(",") if server.strip()],
            "security_protocol": self.security_protocol,
        }
        if self.security_protocol.endswith("SSL"):
            files = {"ssl_cafile": self.ssl_cafile, "ssl_certfile": self.ssl_certfile, "ssl_keyfile": self.ssl_keyfile}
            settings |= {name: str(path) for name, path in files.items() if path is not None}
            if self.ssl_password is not None:
                settings["ssl_password"] = self.ssl_password
        if self.security_protocol.startswith("SASL"):
            settings["sasl_mechanism"] = self.sasl_mechanism or "PLAIN"
            settings["sasl_plain_username"] = self.sasl_username
            settings["sasl_plain_password"] = self.sasl_password
        return settings


class Mapping(Section):
    queries: dict[str, str] = Field(
        default_factory=dict, description="field of a UBI query -> your path to it, as user_query -> search.term"
    )
    events: dict[str, str] = Field(
        default_factory=dict, description="field of a UBI event -> your path, as query_id -> items[0].search_id"
    )
    documents: dict[str, str] = Field(
        default_factory=dict, description="field of a document -> your path, as doc_id -> sku"
    )
    values: dict[str, dict[str, str]] = Field(
        default_factory=dict, description="our field -> your value -> ours, as action_name -> view -> click"
    )
    time_unit: Literal["s", "ms", "us", "ns"] = Field("ms", description="what your times count that are numbers")
