"""Logging: JSON lines for machines, readable lines for terminals, card numbers in neither."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime
from typing import Any, Final, TextIO

import orjson

from worker.redaction import redact

# The attributes of every log record; any other came as `extra`.
_STANDARD: Final = frozenset(logging.LogRecord("", 0, "", 0, "", (), None).__dict__) | {
    "message",
    "asctime",
    "taskName",
}


def configure(level: str = "INFO", stream: TextIO | None = None, as_json: bool | None = None) -> None:
    """Send all logging to one stream; call it once, at the start of the process.

    Parameters
    ----------
    level
        Of our own loggers; kafka-python's log from WARNING on.
    stream
        None for standard error.
    as_json
        None chooses JSON unless the stream is a terminal.
    """
    target = sys.stderr if stream is None else stream
    structured = not target.isatty() if as_json is None else as_json
    handler = logging.StreamHandler(target)
    handler.setFormatter(JsonFormatter() if structured else ReadableFormatter())
    handler.addFilter(CardNumberFilter())
    logging.basicConfig(level=level, handlers=[handler], force=True)
    # At DEBUG kafka-python's admin client logs passwords. Its selector warns of every pause of a busy machine.
    logging.getLogger("kafka").setLevel(logging.WARNING)
    logging.getLogger("kafka.net.selector").setLevel(logging.ERROR)
    # Added once: a logger ignores a filter that it has.
    logging.getLogger("kafka.coordinator.consumer").addFilter(_UNSTABLE)


class UnstableOffsetFilter(logging.Filter):
    """Drops what kafka-python logs as an error ten times a second while it waits for an open transaction to end."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record says anything else."""
        return "UnstableOffsetCommitError" not in record.getMessage()


_UNSTABLE: Final = UnstableOffsetFilter()


def is_json() -> bool:
    """Return whether `configure` has chosen JSON lines."""
    return any(isinstance(handler.formatter, JsonFormatter) for handler in logging.getLogger().handlers)


class CardNumberFilter(logging.Filter):
    """Redacts card numbers in a record's message, fields and traceback; lets every record pass."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the record in place."""
        # The message is formatted first: a card number may come in an argument.
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        record.exc_text = record.exc_text and redact(record.exc_text)
        record.stack_info = record.stack_info and redact(record.stack_info)
        for name, value in _fields(record).items():
            setattr(record, name, _redacted(value))
        return True


class JsonFormatter(logging.Formatter):
    """Formats one JSON object a line: time, level, logger, message, the fields given as `extra`, the traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as JSON."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {name: value for name, value in _fields(record).items() if name not in line}
        if trace := _traceback(record):
            line["traceback"] = trace
        try:
            return _dumps(line)
        except TypeError:  # text that is not UTF-8, such as a file name's
            return _dumps({name: ascii(value) for name, value in line.items()})


class ReadableFormatter(logging.Formatter):
    """Formats local time, level, message, and the fields as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as text."""
        time = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        fields = "".join(f" {name}={value}" for name, value in _fields(record).items())
        trace = _traceback(record)
        return f"{time} {record.levelname:<7} {record.getMessage()}{fields}" + (f"\n{trace}" if trace else "")


def _dumps(line: dict[str, Any]) -> str:
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return orjson.dumps(line, default=str, option=options).decode()


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in record.__dict__.items() if name not in _STANDARD}


def _redacted(value: Any) -> Any:
    """Return the value itself if its text holds no card number, else the redacted text."""
    text = value if isinstance(value, str) else str(value)
    clean = redact(text)
    return value if clean == text else clean


def _traceback(record: logging.LogRecord) -> str:
    return "\n".join(part for part in (record.exc_text, record.stack_info) if part)
