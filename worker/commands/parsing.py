"""How verbs are declared, and the types of their arguments."""

from __future__ import annotations

import argparse
import re
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from typing import Final, NoReturn, TypeAlias

MOST_OFFSET: Final = 2**63 - 1
MOST_SEED: Final = 2**32 - 1
"""The greatest that scikit-learn takes."""
TIMES: Final = "a date or time in ISO 8601, in UTC if it names no offset"

_UNKNOWN: Final = "unrecognized arguments: "

Command = Callable[[argparse.Namespace], int]


class _HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Leaves room for the longest verb beside its meaning."""

    def add_argument(self, action: argparse.Action) -> None:
        super().add_argument(action)
        if action.nargs == argparse.PARSER:  # the verbs: argparse does not count their indent
            self._action_max_length += self._indent_increment


class Parser(argparse.ArgumentParser):
    """Keeps the line breaks of descriptions and epilogs, and answers a misspelt word with the one that is meant."""

    def __init__(self, **kwargs: object) -> None:
        super().__init__(formatter_class=_HelpFormatter, **kwargs)  # type: ignore[arg-type]

    def error(self, message: str) -> NoReturn:
        """Print the message, with what was meant, and end with code 2."""
        super().error(message + did_you_mean(_misspelt(message), words_below(self)))


def _misspelt(message: str) -> str:
    """Return the word that a message of argparse is about; an empty text if it is about none."""
    if message.startswith(_UNKNOWN):
        return message.removeprefix(_UNKNOWN).split()[0].partition("=")[0]
    found = re.search(r"invalid choice: '([^']*)'", message)
    return found[1] if found else ""


def words_below(parser: argparse.ArgumentParser) -> list[str]:
    """Return the verbs, options and choices of the parser and of all parsers below it."""
    words: list[str] = []
    for action in arguments_of(parser):
        words += [*action.option_strings, *(action.choices or ())]
    return words + [word for below in parsers_below(parser) for word in words_below(below)]


def did_you_mean(word: str, words: Iterable[str]) -> str:
    """Return a question that names the likeliest of the words; an empty text if none is like the word."""
    close = get_close_matches(word, list(dict.fromkeys(words)), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


Verbs: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"  # noqa: SLF001 - it has no public name
"""What verbs are added to."""


def verbs_of(parser: argparse.ArgumentParser) -> Verbs:
    """Let the parser have verbs, and return what they are added to; without a verb it prints its help."""

    def print_help(args: argparse.Namespace) -> int:
        del args
        parser.print_help()
        return 0

    parser.set_defaults(command=print_help)
    return parser.add_subparsers(title="verbs", metavar="VERB")


def arguments_of(parser: argparse.ArgumentParser) -> list[argparse.Action]:
    """Return all that the parser takes, verbs included."""
    return parser._actions  # noqa: SLF001 - argparse has no public way to list them


def parsers_below(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of the verbs that stand directly below the parser."""
    for action in arguments_of(parser):
        if action.nargs == argparse.PARSER and isinstance(action.choices, dict):
            yield from action.choices.values()


def add_group(verbs: Verbs, name: str, help_text: str) -> Verbs:
    """Declare a verb that has verbs below it, and return what those are added to."""
    return verbs_of(verbs.add_parser(name, help=help_text, description=_sentence(help_text)))


def add_verb(
    verbs: Verbs, name: str, help_text: str, command: Command, more: str = "", *, configured: bool = True
) -> argparse.ArgumentParser:
    """Declare a verb.

    Parameters
    ----------
    verbs
        What the verb is added to.
    name
        The word on the command line.
    help_text
        What the verb does, as half a sentence.
    command
        Takes the parsed arguments and returns the exit code.
    more
        Text below the arguments in the help of the verb.
    configured
        Whether the verb reads the settings, and so takes `--config`.

    Returns
    -------
    argparse.ArgumentParser
        Takes the arguments of the verb.
    """
    parser = verbs.add_parser(name, help=help_text, description=_sentence(help_text), epilog=more or None)
    parser.set_defaults(command=command)
    if configured:
        # --config may stand behind the verb too. Without SUPPRESS its default would replace one given before the verb.
        add_config(parser, default=argparse.SUPPRESS)
    return parser


def add_config(parser: argparse.ArgumentParser, default: object) -> None:
    """Add the argument that names the settings file."""
    parser.add_argument(
        "--config", type=Path, metavar="FILE", default=default,
        help="TOML file of settings (default: the file that FRAUD_WORKER_CONFIG names); "
        "FRAUD_WORKER__SECTION__NAME overrides a setting",
    )  # fmt: skip


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def time_ms(text: str) -> int:
    """Return a date or time as epoch milliseconds."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not {TIMES}, such as 2024-01-31") from None
    return round((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp() * 1000)


def count(text: str) -> int:
    """Return a whole number of 1 or more."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of 1 or more")
    return int(text)


def whole(most: int) -> Callable[[str], int]:
    """Return the type of an argument that is a whole number from 0 to `most`."""

    def parse(text: str) -> int:
        if not (text.isascii() and text.isdecimal()) or int(text) > most:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to {most}")
        return int(text)

    return parse


def port(text: str) -> int:
    """Return a port to listen at."""
    if not text.isdecimal() or not 0 < int(text) < 65_536:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 1 to 65535")
    return int(text)


def above(limit: float) -> Callable[[str], float]:
    """Return the type of an argument that is a number above a limit."""
    return _number(lambda value: value > limit, f"a number above {limit:g}")


def at_least(limit: float) -> Callable[[str], float]:
    """Return the type of an argument that is a number, the limit or more."""
    return _number(lambda value: value >= limit, f"a number of {limit:g} or more")


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
