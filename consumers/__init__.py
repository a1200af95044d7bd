"""Kafka to the store, exactly once: messages are polled, decoded and handed over in batches."""
