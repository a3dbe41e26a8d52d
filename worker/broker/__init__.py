"""An embedded Apache Kafka broker, for the demo, the tests and users without a Kafka."""
