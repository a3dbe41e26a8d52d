from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from kafka.errors import UnstableOffsetCommitError

from worker.telemetry import logs

CARD = "4111111111111111"
HIDDEN = "************1111"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, kafka_level = root.handlers[:], root.level, logging.getLogger("kafka").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("kafka").setLevel(kafka_level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_pipe_gets_one_json_object_a_line() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    log = logging.getLogger("worker.example")
    log.info("restored %d\nrows", 3, extra={"partition": 2, "seconds": np.float64(0.5)})
    log.debug("too fine")
    (line,) = lines(stream)
    assert line.pop("time").endswith("+00:00")
    assert line == {
        "level": "INFO",
        "logger": "worker.example",
        "message": "restored 3\nrows",
        "partition": 2,
        "seconds": 0.5,
    }


def test_a_terminal_gets_readable_lines() -> None:
    stream = Terminal()
    logs.configure("INFO", stream)
    logging.getLogger("worker").warning("waiting for %s", "Kafka", extra={"attempt": 2})
    assert stream.getvalue().split(" ", 1)[1] == "WARNING waiting for Kafka attempt=2\n"


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_a_card_number_is_struck_out_wherever_it_stands(stream: io.StringIO) -> None:
    logs.configure("INFO", stream)
    log = logging.getLogger("worker")
    log.info("message %s", CARD)
    log.info("field", extra={"card": CARD, "number": int(CARD), "nested": {"a": [CARD]}})
    log.info("stack", stack_info=True)
    try:
        raise ValueError(f"bad {CARD}")
    except ValueError:
        log.exception("traceback")
    assert CARD not in stream.getvalue()
    assert stream.getvalue().count(HIDDEN) == 5
    assert "Traceback" in stream.getvalue()


def test_a_redacted_line_is_still_json() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    logging.getLogger("worker").info("x", extra={"number": int(CARD), "offset": 7})
    (line,) = lines(stream)
    assert (line["number"], line["offset"]) == (HIDDEN, 7)


def test_text_that_is_no_utf_8_is_logged_all_the_same() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    logging.getLogger("worker").info("file %s", "\udcff")
    assert "udcff" in lines(stream)[0]["message"]


def test_a_percent_sign_in_a_redacted_message_is_not_a_format() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    logging.getLogger("worker").info("%s", f"100 %s of {CARD}")
    assert lines(stream)[0]["message"] == f"100 %s of {HIDDEN}"


def test_kafka_python_speaks_from_warning_on() -> None:
    stream = io.StringIO()
    logs.configure("DEBUG", stream)
    logging.getLogger("kafka.conn").info("chatter")
    logging.getLogger("kafka.conn").warning("trouble")
    assert [line["message"] for line in lines(stream)] == ["trouble"]


def test_waiting_for_an_open_transaction_is_not_logged_as_an_error() -> None:
    stream = io.StringIO()
    logs.configure("INFO", stream)
    client = logging.getLogger("kafka.coordinator.consumer")
    client.error("Unknown error fetching offsets for %s: %s", "t-0", UnstableOffsetCommitError())
    client.error("another")
    assert [line["message"] for line in lines(stream)] == ["another"]
