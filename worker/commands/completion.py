"""`completion`: what a shell needs to complete the command line."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from worker.commands.parsing import Verbs, add_verb

SHELLS: Final = ("bash", "zsh", "fish")
_HOW: Final = """\
to complete at the next start of the shell:
  bash  fraud-worker completion bash > ~/.local/share/bash-completion/completions/fraud-worker
  zsh   fraud-worker completion zsh > ~/.zsh/completions/_fraud-worker      (a folder in fpath)
  fish  fraud-worker completion fish > ~/.config/fish/completions/fraud-worker.fish"""


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    help_text = "print what a shell needs to complete verbs and options"
    parser = add_verb(verbs, "completion", help_text, print_it, _HOW, configured=False)
    parser.add_argument("shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}")


def print_it(args: argparse.Namespace) -> int:
    """Print the shell's script."""
    import shtab

    _complete_files(args.parser, shtab.FILE)
    print(shtab.complete(args.parser, shell=args.shell))
    return 0


def _complete_files(parser: argparse.ArgumentParser, how: object) -> None:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for verb in action.choices.values():
                _complete_files(verb, how)
        elif action.type is Path:
            action.complete = how  # type: ignore[attr-defined]
