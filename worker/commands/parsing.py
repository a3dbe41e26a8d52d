"""How verbs are declared, and the kinds of arguments they take."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, TypeAlias

TIMES: Final = "a date or time in ISO 8601, UTC unless it says otherwise"

Command = Callable[[argparse.Namespace], int]


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves room for the longest verb beside its meaning."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if isinstance(action, argparse._SubParsersAction):
            self._action_max_length += self._indent_increment  # argparse forgets that verbs are indented


class Parser(argparse.ArgumentParser):
    """Keeps the lines of its texts as they are written."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(formatter_class=_HelpFormatter, **kwargs)  # type: ignore[arg-type]


Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


def verbs_of(parser: argparse.ArgumentParser) -> Verbs:
    """Return what the parser's verbs are added to."""
    return parser.add_subparsers(title="verbs", metavar="VERB", required=True)


def add_group(verbs: Verbs, name: str, help_text: str) -> Verbs:
    """Declare a verb that has verbs of its own, and return what those are added to."""
    return verbs_of(verbs.add_parser(name, help=help_text, description=_sentence(help_text)))


def add_verb(
    verbs: Verbs, name: str, help_text: str, command: Command, more: str = "", *, configured: bool = True
) -> argparse.ArgumentParser:
    """Declare a verb.

    Parameters
    ----------
    verbs
        Where it belongs.
    name
        What is typed.
    help_text
        Half a sentence: what it does.
    command
        Called with the arguments; returns the exit code.
    more
        Stands below the arguments in the verb's own help.
    configured
        Whether it reads the settings.
    """
    parser = verbs.add_parser(name, help=help_text, description=_sentence(help_text), epilog=more or None)
    parser.set_defaults(command=command)
    if configured:
        # Here too, so that it may stand behind the verb; suppressed, or it would undo what stands before.
        add_config(parser, default=argparse.SUPPRESS)
    return parser


def add_config(parser: argparse.ArgumentParser, default: object) -> None:
    """Add the argument that names the settings file."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=default,
        help="settings in TOML; FRAUD_WORKER_CONFIG names one as well, FRAUD_WORKER__SECTION__NAME overrides one",
    )  # fmt: skip


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def time_ms(text: str) -> int:
    """Read a date or time as epoch milliseconds."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {TIMES}, such as 2024-01-31") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def count(text: str) -> int:
    """Read a whole number from 1 on."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return int(text)


def port(text: str) -> int:
    """Read a port to listen at."""
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def above(limit: float) -> Callable[[str], float]:
    """Return what reads a number above a limit."""
    return _number(lambda value: value > limit, f"a number above {limit}")


def at_least(limit: float) -> Callable[[str], float]:
    """Return what reads a number from a limit on."""
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
