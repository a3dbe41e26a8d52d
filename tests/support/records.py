"""Made-up Kafka records in the form in which the consumer returns them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from kafka import TopicPartition

from worker.kafka_io.consumer import ColumnarConsumer
from worker.kafka_io.record_batches import RecordColumns

FIRST_OFFSET = 100
TIMESTAMP_MS = 1_700_000_000_000


def record_columns(
    values: Sequence[bytes | None], keys: Sequence[bytes | None], topic: str = "topic", partition: int = 3
) -> RecordColumns:
    """Lay records out at offsets 100, 102, ..., with one other byte before each key and value."""
    parts = [part for pair in zip(keys, values, strict=True) for part in pair]
    length = np.array([-1 if part is None else len(part) for part in parts], dtype=np.int64)
    stop = np.cumsum(np.maximum(length, 0) + 1)
    start = stop - np.maximum(length, 0)
    rows = np.arange(len(values))
    return RecordColumns(
        topic=topic,
        partition=partition,
        offsets=FIRST_OFFSET + 2 * rows,
        timestamps_ms=TIMESTAMP_MS + rows,
        data=np.frombuffer(b"".join(b"}" + (part or b"") for part in parts), dtype=np.uint8),
        key_start=start[::2].copy(),
        key_length=length[::2].copy(),
        value_start=start[1::2].copy(),
        value_length=length[1::2].copy(),
        next_offset=FIRST_OFFSET + 2 * len(values) + 5,
    )


def json_columns(messages: Sequence[Mapping[str, Any]], topic: str = "topic") -> RecordColumns:
    """Encode messages as JSON, keyed by their `card_id`."""
    values = [json.dumps(message).encode() for message in messages]
    return record_columns(values, [str(message["card_id"]).encode() for message in messages], topic)


def read_from(consumer: ColumnarConsumer, partitions: Sequence[TopicPartition], offset: int = 0) -> None:
    """Let a consumer read these partitions from an offset, without a group; a worker always has one."""
    consumer._consumer.assign(list(partitions))
    for partition in partitions:
        consumer.seek(partition, offset)
