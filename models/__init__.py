"""The domain of fraud-worker: features, models, threshold and cost; knows nothing of Kafka, files or clocks."""
