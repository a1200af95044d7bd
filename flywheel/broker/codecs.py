"""Which compressions of messages can be unpacked here. Producers choose one, and the brokers pass it on."""

from __future__ import annotations


def missing_codecs() -> list[str]:
    """The names of Kafka's compressions whose library is not installed."""
    from kafka import codec

    known = {"gzip": codec.has_gzip, "lz4": codec.has_lz4, "snappy": codec.has_snappy, "zstd": codec.has_zstd}
    return [name for name, there in known.items() if not there()]
