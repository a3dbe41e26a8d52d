"""The same commit cycle over files of past transactions, without Kafka; and sending such files through Kafka."""
