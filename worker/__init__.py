"""The runtime of fraud-worker: from Kafka, through `models`, back to Kafka."""
