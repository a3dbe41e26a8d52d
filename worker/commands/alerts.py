"""`alerts tail`: the alerts as they are published."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from worker.commands.parsing import TIMES, Verbs, add_group, add_verb, count, time_ms
from worker.commands.terminal import output, read_settings, wait_for_kafka

if TYPE_CHECKING:
    from worker.kafka_io.topic_reader import TopicReader

_PATIENCE: Final = 10
"""After so many empty polls, of 0.2 s each, the verb says that it waits."""

_WIDTH: Final = 120
_MORE: Final = """\
Reads committed alerts and joins no group, so any number of readers may watch. It
needs [kafka] and [topics] of the settings, no entity_key. Ctrl-C ends it with
code 130."""

Show = Callable[[Any], bool]


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    alerts = add_group(verbs, "alerts", "watch the alerts")
    parser = add_verb(alerts, "tail", "show alerts as they are published", tail, more=_MORE)
    start = parser.add_mutually_exclusive_group()
    start.add_argument("-n", "--last", type=count, metavar="N", help="begin with the newest N")
    start.add_argument("--from-beginning", action="store_true", help="begin with the oldest")
    start.add_argument(
        "--since", type=time_ms, metavar="TIME", help=f"begin with those published since then: {TIMES}"
    )
    parser.add_argument("--limit", type=count, metavar="N", help="end after N alerts")
    parser.add_argument("--json", action="store_true", help="print the JSON of the topic, one alert a line")


def tail(args: argparse.Namespace) -> int:
    """Show alerts as they are published."""
    from worker.kafka_io.topic_reader import open_topic

    settings = read_settings(args, keyless=True)
    wait_for_kafka(settings)
    show = _show_json if args.json else _show_text()
    with open_topic(settings, settings.topics.alerts) as reader:
        records = chain(_past(args, reader), _following(reader, settings.topics.alerts))
        shown = (record for record in records if show(record))
        for _ in islice(shown, args.limit):
            pass
    return 0


def _past(args: argparse.Namespace, reader: TopicReader) -> Iterator[Any]:
    if args.last:
        return iter(reader.newest(args.last))
    if args.since is not None or args.from_beginning:
        return reader.since(args.since)
    return iter(())


def _following(reader: TopicReader, topic: str) -> Iterator[Any]:
    """Yield what is published from now on. Print once that the verb waits, if nothing comes."""
    empty_polls = 0
    for record in reader.following():
        empty_polls = empty_polls + 1 if record is None else _PATIENCE
        if empty_polls == _PATIENCE and record is None:
            print(f"waiting for alerts on {topic}; Ctrl-C ends", file=sys.stderr, flush=True)
        if record is not None:
            yield record


def _show_json(record: Any) -> bool:
    from worker.view.alert_text import one_line

    line = one_line(record.value)
    if line is None:
        return _skip(record, "not JSON")
    sys.stdout.buffer.write(line + b"\n")
    sys.stdout.buffer.flush()
    return True


def _show_text() -> Show:
    from worker.view.alert_text import alert_text, read_alert

    console = output(_WIDTH)

    def show(record: Any) -> bool:
        alert = read_alert(record.value)
        if isinstance(alert, str):
            return _skip(record, alert)
        console.print(alert_text(alert), end="\n\n", soft_wrap=True)
        return True

    return show


def _skip(record: Any, why: str) -> bool:
    """Report a record that is no alert on standard error."""
    where = f"{record.topic}, partition {record.partition}, offset {record.offset}"
    print(f"{where}: no alert that this version reads ({why})", file=sys.stderr, flush=True)
    return False
