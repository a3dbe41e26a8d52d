"""`config show` and `config check`: the settings that a worker would use."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import sys

from worker.commands.parsing import Verbs, add_group, add_verb


def add_to(verbs: Verbs) -> None:
    """Declare the verbs."""
    config = add_group(verbs, "config", "show or check the settings")
    add_verb(config, "show", "print every setting with its origin and its meaning", show)
    add_verb(config, "check", "check the settings; the exit code is 2 if one is wrong", check)


def show(args: argparse.Namespace) -> int:
    """Print every setting with its origin and its meaning, or the defaults if the settings cannot be read."""
    from worker.errors import SettingsError
    from worker.settings.loading import config_file, load_settings
    from worker.settings.report import defaults, report

    try:
        settings = load_settings(args.config)
    except SettingsError:
        # The list of settings is what helps to correct one: print it before the error.
        print("\n".join(defaults()))
        sys.stdout.flush()
        raise
    print("\n".join(report(settings, config_file(args.config))))
    return 0


def check(args: argparse.Namespace) -> int:
    """Read the settings and print that they are valid."""
    from worker.settings.loading import config_file, load_settings
    from worker.settings.report import refuse_unknown_variables

    refuse_unknown_variables()
    load_settings(args.config)
    print(f"The settings from {config_file(args.config) or 'the environment'} are valid.")
    return 0
