"""`dead-letters`: the records that a worker could not use, listed, and sent again."""

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
characters that do not print are escaped. It needs no entity_key. `dead-letters
replay` sends records again; of one longer than 64 KiB the topic keeps only the
beginning."""
_AGAIN: Final = """\
Sends the records of dead letters to their partitions again, each exactly once: what
an earlier run has sent is left out. Do it once what was wrong is mended: labels whose
transactions had not come yet (--reason orphan_label), field names or words for labels
that the settings lacked. A record that fails again becomes a dead letter again. What
was longer than 64 KiB, or held a card number, is not whole any more and stays."""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    group = add_group(verbs, "dead-letters", "list the records that could not be used, or send them again")
    _add_replay(group)
    parser = add_verb(
        group, "list", "list the newest dead letters, and count all by stage and reason", show, _MORE
    )
    parser.add_argument(
        "--limit", type=count, metavar="N", help=f"list the newest N (default: {_SHOWN}; with --json all)"
    )
    _add_choice(parser)
    parser.add_argument("--summary", action="store_true", help="print only the counts")
    parser.add_argument(
        "--json", action="store_true", help="print one JSON object a line, the original in base64"
    )


def _add_choice(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--reason", metavar="R", help="only those of this reason, such as missing_field or orphan_label"
    )
    parser.add_argument("--stage", metavar="S", help="only those of this stage: decode or settle")
    parser.add_argument(
        "--since", type=time_ms, metavar="TIME", help=f"only those written since then: {TIMES}"
    )


def _add_replay(group: Verbs) -> None:
    parser = add_verb(
        group, "replay", "send dead letters to their topics again, each exactly once", replay, _AGAIN
    )
    _add_choice(parser)
    parser.add_argument("--dry-run", action="store_true", help="send nothing, and say what would be sent")
    parser.add_argument("--json", action="store_true", help="print the counts as a JSON object")


def replay(args: argparse.Namespace) -> int:
    """Send dead letters again."""
    from worker.kafka_io.client import kafka_errors_explained
    from worker.live.resend import resend
    from worker.redaction import printable
    from worker.wire.dead_letters import Wanted

    settings = read_settings(args, keyless=True)
    wait_for_kafka(settings)
    wanted = Wanted(args.stage, args.reason)
    with kafka_errors_explained(settings):
        found = resend(settings, wanted, args.since, dry_run=args.dry_run)
    if args.json:
        print(json.dumps({"sent": found.sent, "sent_before": found.before, "refused": found.refused}))
        return 0
    verb = "would send" if args.dry_run else "sent"
    by_reason = ", ".join(f"{printable(reason)} {number:,}" for reason, number in found.sent.most_common())
    print(f"{verb} {found.sent.total():,} records again" + (f": {by_reason}" if by_reason else ""))
    if found.before:
        print(f"{found.before:,} were sent by an earlier run")
    for why, number in found.refused.most_common():
        print(f"{number:,} stay: {why}")
    return 0


def show(args: argparse.Namespace) -> int:
    """List dead letters."""
    from worker.kafka_io.topic_reader import open_topic
    from worker.view.dead_letter_text import listing
    from worker.wire.dead_letters import Wanted, letters

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
