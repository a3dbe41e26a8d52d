"""`alerts tail`: the alerts as they are published."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Callable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, Final

from worker.commands.parsing import TIMES, Verbs, add_group, add_verb, at_least, count, time_ms
from worker.commands.terminal import output, read_settings, wait_for_kafka

if TYPE_CHECKING:
    from worker.kafka_io.topic_reader import TopicReader
    from worker.wire.schema import Alert

_PATIENCE: Final = 10
"""After so many empty polls, of 0.2 s each, the verb says that it waits."""

_WIDTH: Final = 120
_MORE: Final = """\
Reads committed alerts and joins no group, so any number of readers may watch. It
needs [kafka] and [topics] of the settings, no entity_key. Ctrl-C ends it with
code 130."""

Show = Callable[[Any], bool]
Fits = Callable[[Any], bool]


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
    parser.add_argument(
        "--until-end",
        action="store_true",
        help="end at the newest alert instead of waiting for more; without a beginning it begins with the oldest",
    )
    parser.add_argument("--limit", type=count, metavar="N", help="end after N alerts")
    chosen = parser.add_argument_group("alerts to show (default: all)")
    chosen.add_argument("--card", metavar="TOKEN", help="only those of this card_id")
    chosen.add_argument(
        "--decided-by", choices=("online", "forest"), metavar="WHO", help="only those of: online, forest"
    )
    chosen.add_argument(
        "--min-probability",
        type=at_least(0),
        metavar="P",
        help="only those of this probability or more; the forest gives none",
    )
    parser.add_argument("--json", action="store_true", help="print the JSON of the topic, one alert a line")


def tail(args: argparse.Namespace) -> int:
    """Show alerts as they are published."""
    from worker.kafka_io.topic_reader import open_topic

    settings = read_settings(args, keyless=True)
    wait_for_kafka(settings)
    show = _show_json if args.json else _show_text()
    with open_topic(settings, settings.topics.alerts) as reader:
        fits = _fits(args)
        records = _past(args, reader, fits)
        if not args.until_end:
            records = chain(records, _following(reader, settings.topics.alerts))
        shown = (record for record in records if fits(record) and show(record))
        for _ in islice(shown, args.limit):
            pass
    return 0


def _past(args: argparse.Namespace, reader: TopicReader, fits: Fits) -> Iterator[Any]:
    if args.last:
        if not _is_choosy(args):
            return iter(reader.newest(args.last))
        # The newest ones that fit may lie far back.
        return iter(deque(filter(fits, reader.since(None)), maxlen=args.last))
    if args.since is not None or args.from_beginning or args.until_end:
        return reader.since(args.since)
    return iter(())


def _is_choosy(args: argparse.Namespace) -> bool:
    return any(it is not None for it in (args.card, args.decided_by, args.min_probability))


def _fits(args: argparse.Namespace) -> Fits:
    """Return whether a record is of the alerts asked for; one that is no alert is, unless something is asked for."""
    from worker.view.alert_text import read_alert

    if not _is_choosy(args):
        return lambda _: True

    def fits(record: Any) -> bool:
        alert = read_alert(record.value)
        return not isinstance(alert, str) and (
            args.card in {None, alert.card_id}
            and args.decided_by in {None, alert.decided_by}
            and (args.min_probability is None or _probability(alert) >= args.min_probability)
        )

    return fits


def _probability(alert: Alert) -> float:
    """Return the probability; NaN, which is not above any limit, where the forest decided."""
    return float("nan") if alert.probability is None else alert.probability


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
