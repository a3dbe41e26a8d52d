from __future__ import annotations

import gc
import logging

import kafka.producer.kafka as kafka_producer
import pytest

from worker.kafka_io.producer_logger import keep_producer_logger


def test_a_collected_producer_leaves_its_logger_to_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    # Another test's producer may have been collected before: what is kept is the logger of now.
    monkeypatch.setattr(kafka_producer, "log", logging.getLogger("kafka.producer.kafka"))
    keep_producer_logger()
    producer = kafka_producer.KafkaProducer.__new__(kafka_producer.KafkaProducer)
    producer._closed = True
    producer.config = {"client_id": "x", "transactional_id": None}
    before = kafka_producer.log
    del producer
    gc.collect()
    assert isinstance(before, logging.Logger)
    assert kafka_producer.log is before
