"""`dead-letters list`: the records that were set aside."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Final

from worker.commands.parsing import TIMES, Verbs, add_group, add_verb, count, time_ms
from worker.commands.terminal import output, read_settings, wait_for_kafka

if TYPE_CHECKING:
    from worker.dead_letters import Listing

_SHOWN: Final = 50
_WIDE: Final = 1_000
"""Columns of the table where nobody's terminal limits it."""

_MORE: Final = """\
Reads what is there when it starts, and ends. Card numbers are struck out, and
what is no plain text is escaped. Needs no entity_key. To try a record again,
mend its producer and send it anew: the topic keeps the original only in part
when it is longer than 64 KiB."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    group = add_group(verbs, "dead-letters", "look at the records that could not be used")
    parser = add_verb(group, "list", "list the newest dead letters and count all by reason", show, _MORE)
    parser.add_argument(
        "--limit", type=count, metavar="N", help=f"how many of the newest to list ({_SHOWN}; with --json all)"
    )
    parser.add_argument("--reason", metavar="R", help="only this one, such as missing_field or orphan_label")
    parser.add_argument("--stage", metavar="S", help="only this one: decode or settle")
    parser.add_argument("--since", type=time_ms, metavar="TIME", help=f"only those written since: {TIMES}")
    parser.add_argument("--summary", action="store_true", help="the counts alone")
    parser.add_argument("--json", action="store_true", help="one JSON object a line, the original in base64")


def show(args: argparse.Namespace) -> int:
    """List dead letters."""
    from worker.dead_letters import listing
    from worker.topic_reader import open_topic

    settings = read_settings(args, keyless=True)
    wait_for_kafka(settings)
    most = 0 if args.summary else args.limit or (None if args.json else _SHOWN)
    with open_topic(settings, settings.topics.dead_letters) as reader:
        found = listing(reader.since(args.since), most=most, stage=args.stage, reason=args.reason)
    if args.json:
        _print_json(found, counts=args.summary)
    else:
        _print_table(found)
    return 0


def _print_json(found: Listing, *, counts: bool) -> None:
    from worker.dead_letters import redacted_json

    if counts:
        for (stage, reason), number in found.counts.most_common():
            print(json.dumps({"stage": stage, "reason": reason, "count": number}))
    for letter in found.letters:
        sys.stdout.buffer.write(redacted_json(letter) + b"\n")


def _print_table(found: Listing) -> None:
    from worker.dead_letters import summary, table

    console = output(_WIDE)
    if found.total == 0:
        console.print("No dead letters.")
        return
    if found.letters:
        console.print(table(found.letters))
        console.print(f"\nThe newest {len(found.letters):,} of {found.total:,} dead letters:\n")
    console.print(summary(found))
