"""Publishing to Kafka, its topics, and the embedded broker of the demo."""
