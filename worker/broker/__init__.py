"""An Apache Kafka broker of our own, for the demo, the tests and who has none."""
