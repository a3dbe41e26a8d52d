"""`dead-letters list`: the records that a worker could not use."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from worker.commands.parsing import TIMES, Verbs, add_group, add_verb, count, time_ms
from worker.commands.terminal import output, read_settings, wait_for_kafka

if TYPE_CHECKING:
    from worker.view.dead_letter_text import Listing
    from worker.wire.schema import DeadLetter

_SHOWN: Final = 50
_WIDE: Final = 1_000
"""Width of the table where no terminal limits it."""

_MORE: Final = """\
Reads the topic to the end that it has at the start. Card numbers are redacted;
characters that do not print are escaped. It needs no entity_key. To try a record
again, correct its producer and send it again: of a record longer than 64 KiB the
topic keeps only the beginning."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    group = add_group(verbs, "dead-letters", "list the records that could not be used")
    parser = add_verb(
        group, "list", "list the newest dead letters, and count all by stage and reason", show, _MORE
    )
    parser.add_argument(
        "--limit", type=count, metavar="N", help=f"list the newest N (default: {_SHOWN}; with --json all)"
    )
    parser.add_argument(
        "--reason", metavar="R", help="only those of this reason, such as missing_field or orphan_label"
    )
    parser.add_argument("--stage", metavar="S", help="only those of this stage: decode or settle")
    parser.add_argument(
        "--since", type=time_ms, metavar="TIME", help=f"only those written since then: {TIMES}"
    )
    parser.add_argument("--summary", action="store_true", help="print only the counts")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, the original in base64"
    )


def show(args: argparse.Namespace) -> int:
    """List dead letters."""
    from worker.kafka_io.topic_reader import open_topic
    from worker.view.dead_letter_text import Wanted, letters, listing

    settings = read_settings(args, keyless=True)
    wait_for_kafka(settings)
    wanted = Wanted(args.stage, args.reason)
    with open_topic(settings, settings.topics.dead_letters) as reader:
        records = reader.since(args.since)
        if args.json and not args.summary and args.limit is None:
            # All of them may be more than memory holds: print each as it is read.
            _print_json(letters(records, wanted))
            return 0
        found = listing(records, most=0 if args.summary else args.limit or _SHOWN, wanted=wanted)
    if not args.json:
        _print_table(found)
    elif args.summary:
        _print_counts(found)
    else:
        _print_json(found.letters)
    return 0


def _print_counts(found: Listing) -> None:
    for (stage, reason), number in found.counts.most_common():
        print(json.dumps({"stage": stage, "reason": reason, "count": number}))


def _print_json(found: Iterable[DeadLetter]) -> None:
    from worker.view.dead_letter_text import redacted_json

    for letter in found:
        sys.stdout.buffer.write(redacted_json(letter) + b"\n")


def _print_table(found: Listing) -> None:
    from worker.view.dead_letter_text import summary, table

    console = output(_WIDE)
    if found.letters:
        console.print(table(found.letters))
        console.print(f"\nThe newest {len(found.letters):,} of {found.total:,} dead letters:\n")
    if found.counts:
        console.print(summary(found.counts))
    elif found.others:
        console.print("No such dead letters. Others:\n")
        console.print(summary(found.others))
    else:
        console.print("No dead letters.")
