"""`completion`: the script that lets a shell complete the command line."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from worker.commands.parsing import Verbs, add_verb, arguments_of, parsers_below

SHELLS: Final = ("bash", "zsh", "fish")
_HOW: Final = """\
to have the next shell complete verbs and options:
  bash  fraud-worker completion bash > ~/.local/share/bash-completion/completions/fraud-worker
  zsh   fraud-worker completion zsh > ~/.zsh/completions/_fraud-worker      (a folder in fpath)
  fish  fraud-worker completion fish > ~/.config/fish/completions/fraud-worker.fish"""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    help_text = "print the script that lets a shell complete verbs and options"
    parser = add_verb(verbs, "completion", help_text, print_script, _HOW, configured=False)
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def print_script(args: argparse.Namespace) -> int:
    """Print the script for a shell."""
    import shtab

    _complete_files(args.parser, shtab.FILE)
    print(shtab.complete(args.parser, shell=args.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, how: object) -> None:
    """Let shells complete paths where an argument is one, in the parser and in those of its verbs."""
    for action in arguments_of(parser):
        if action.type is Path:
            action.complete = how  # type: ignore[attr-defined]
    for verb in parsers_below(parser):
        _complete_files(verb, how)
