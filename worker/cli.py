"""The command `fraud-worker`: its arguments, and how its errors become exit codes."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from worker.errors import WorkerError

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

EXIT_CODES: Final = {
    0: "all is well",
    1: "anything that has no code of its own",
    2: "a setting or an argument is wrong; the message names it and the fix",
    3: "Kafka does not answer, refuses the credentials, or lacks a topic",
    4: "the topics were written under settings that these contradict",
    5: "another process took over this worker.id: stop one of the two",
    6: "a commit's outcome is unknown: start again, the journal tells",
    7: "a record of our own does not read back",
    8: "too large a share of the records is bad",
    9: "the embedded broker lacks Java or Maven, or does not start",
    INTERRUPTED: "Ctrl-C",
    BROKEN_PIPE: "whoever read the output has gone",
}

_TIMES: Final = "a date or time in ISO 8601, UTC unless it says otherwise"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments
        Of the command line, without the program's name; None takes the process's own.
    """
    args = build_parser().parse_args(arguments)
    try:
        commands = importlib.import_module("worker.commands")
        code: int = getattr(commands, args.command)(args)
        sys.stdout.flush()
    except WorkerError as error:
        print(f"fraud-worker: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left; Python would complain of it once more at its exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line; `command` names a function of `worker.commands`."""
    parser = _Parser(
        prog="fraud-worker",
        description="Decides for each card transaction on Kafka whether it is worth an\n"
        "investigator's time, and learns from labels that arrive weeks later.",
        epilog="\n".join(["exit codes:", *(f"{code:5}  {meaning}" for code, meaning in EXIT_CODES.items())]),
    )
    parser.add_argument("--version", action="version", version=f"fraud-worker {version('fraud-worker')}")
    _add_config(parser, default=None)
    verbs = parser.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_verb(verbs, "run", "run a worker until SIGTERM or Ctrl-C")
    _add_replay(verbs)
    _add_backtest(verbs)
    _add_groups(verbs)
    _add_kafka_and_demo(verbs)
    return parser


class _Parser(argparse.ArgumentParser):
    """Keeps the lines of its texts as they are written."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, **kwargs)  # type: ignore[arg-type]


_Verbs = argparse._SubParsersAction


def _add_config(parser: argparse.ArgumentParser, default: object) -> None:
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=default,
        help="settings in TOML; FRAUD_WORKER_CONFIG names one as well, FRAUD_WORKER__SECTION__NAME overrides one",
    )  # fmt: skip


def _add_verb(verbs: _Verbs[_Parser], name: str, help_text: str, command: str | None = None) -> _Parser:
    parser = verbs.add_parser(name, help=help_text, description=f"{help_text[0].upper()}{help_text[1:]}.")
    parser.set_defaults(command=command or name)
    # Here too, so that it may stand behind the verb; suppressed, or it would undo what stands before.
    _add_config(parser, default=argparse.SUPPRESS)
    return parser


def _add_replay(verbs: _Verbs[_Parser]) -> None:
    parser = _add_verb(verbs, "replay", "send a file through Kafka as its own past: transactions and labels")
    _add_file(parser)
    pace = parser.add_argument_group("pace, as fast as possible unless told otherwise")
    pace.add_argument("--rate", type=_above(0), metavar="N", help="records a second at most")
    pace.add_argument("--speed", type=_above(0), metavar="X", help="3600 replays an hour a second")
    parser.add_argument("--frauds-only", action="store_true", help="send no legit labels")


def _add_backtest(verbs: _Verbs[_Parser]) -> None:
    parser = _add_verb(
        verbs, "backtest", "say what the worker would have decided on a file, and at what cost"
    )
    _add_file(parser)
    judged = parser.add_argument_group("which decisions to judge, all unless told otherwise")
    judged.add_argument("--evaluate-from", type=_time_ms, metavar="TIME", help=_TIMES)
    judged.add_argument("--evaluate-to", type=_time_ms, metavar="TIME", help="this moment is not included")
    parser.add_argument("--json", action="store_true", help="print the figures as one JSON object")


def _add_file(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="CSV, Parquet or JSON lines, columns named as in [transaction]",
    )
    window = parser.add_argument_group("stretch of the file, all of it unless told otherwise")
    window.add_argument("--from", dest="start", type=_time_ms, metavar="TIME", help=_TIMES)
    window.add_argument("--to", dest="end", type=_time_ms, metavar="TIME", help="this moment is not included")
    truth = parser.add_argument_group("labels")
    truth.add_argument(
        "--fraud-column", metavar="NAME", help="0 and 1, booleans, or fraud and legit; may be empty"
    )
    truth.add_argument(
        "--label-time-column", metavar="NAME", help="when the label became known; may be empty"
    )
    truth.add_argument(
        "--label-delay-days",
        type=_at_least(0),
        default=7.0,
        metavar="DAYS",
        help="else from event to label (7)",
    )


def _add_groups(verbs: _Verbs[_Parser]) -> None:
    topics = verbs.add_parser("topics", help="make the topics")
    create = _add_verb(
        topics.add_subparsers(title="verbs", metavar="VERB", required=True),
        "create", "make the six topics that a worker needs; those that exist are left as they are", "topics_create",
    )  # fmt: skip
    create.add_argument(
        "--partitions", type=_count, default=4, metavar="P", help="of all that go by card (4)"
    )
    create.add_argument(
        "--replication", type=_count, default=-1, metavar="N", help="copies of each (as the broker is set)"
    )
    create.add_argument(
        "--retention-days", type=_at_least(-1), metavar="DAYS",
        help="of transactions, labels, alerts and dead letters; -1 is for ever (as the broker is set)",
    )  # fmt: skip
    config = verbs.add_parser("config", help="show or check the settings")
    config_verbs = config.add_subparsers(title="verbs", metavar="VERB", required=True)
    _add_verb(
        config_verbs, "show", "print every setting, where it comes from and what it means", "config_show"
    )
    _add_verb(config_verbs, "check", "say whether the settings are in order", "config_check")


def _add_kafka_and_demo(verbs: _Verbs[_Parser]) -> None:
    kafka = _add_verb(verbs, "kafka", "run a Kafka broker in the foreground, to try things out")
    kafka.add_argument("--port", type=_count, default=9092, help="of the broker (9092)")
    kafka.add_argument("--data-dir", type=Path, metavar="FOLDER", help="keeps the data (a temporary one)")
    demo = _add_verb(verbs, "demo", "show the whole thing at work on made-up traffic")
    demo.add_argument("--bootstrap", metavar="HOST:PORT", help="use this Kafka instead of starting one")


def _time_ms(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {_TIMES}, such as 2024-01-31") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def _above(limit: float) -> Callable[[str], float]:
    return _number(lambda value: value > limit, f"a number above {limit}")


def _at_least(limit: float) -> Callable[[str], float]:
    return _number(lambda value: value >= limit, f"a number from {limit} on")


def _number(fits: Callable[[float], bool], wanted: str) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not fits(value) or value == float("inf"):
            raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")
        return value

    return parse


if __name__ == "__main__":
    sys.exit(main())
