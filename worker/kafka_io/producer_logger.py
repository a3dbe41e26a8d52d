"""Keeps kafka-python's producers logging, which kafka-python itself ends."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any

import kafka.producer.kafka as kafka_producer


def keep_producer_logger() -> None:
    """Keep kafka-python's producers logging after one of them is garbage-collected.

    Up to 3.0.12, `KafkaProducer.__del__` replaces its module's logger by a mute one, for the whole process.
    """
    producer = kafka_producer.KafkaProducer
    if getattr(producer.__del__, "keeps_logger", False):
        return
    # The logger is looked up by name: after an earlier collection the module's own may be mute already.
    kafka_producer.log = logging.getLogger(kafka_producer.__name__)
    producer.__del__ = _keeping_logger(producer.__del__, kafka_producer.log)


def _keeping_logger(collect: Callable[[Any], None], logger: logging.Logger) -> Callable[[Any], None]:
    def collect_and_restore(producer: Any) -> None:
        try:
            collect(producer)
        finally:
            if not sys.is_finalizing():  # then the module may be gone
                kafka_producer.log = logger

    collect_and_restore.keeps_logger = True  # type: ignore[attr-defined]
    return collect_and_restore
