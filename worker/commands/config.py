"""`config show` and `config check`: the settings in force."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import sys

from worker.commands.parsing import Verbs, add_group, add_verb


def add_to(verbs: Verbs) -> None:
    """Declare the verbs."""
    config = add_group(verbs, "config", "show or check the settings")
    add_verb(config, "show", "print every setting, where it comes from and what it means", show)
    add_verb(config, "check", "say whether the settings are in order", check)


def show(args: argparse.Namespace) -> int:
    """Print every setting, its origin and its meaning; the defaults, if the settings cannot be read."""
    from worker.errors import SettingsError
    from worker.settings.loading import config_file, load_settings
    from worker.settings.report import defaults, report

    try:
        settings = load_settings(args.config)
    except SettingsError:
        print("\n".join(defaults()))
        sys.stdout.flush()
        raise
    print("\n".join(report(settings, config_file(args.config))))
    return 0


def check(args: argparse.Namespace) -> int:
    """Read the settings and say whether they are in order."""
    from worker.settings.loading import config_file, load_settings
    from worker.settings.report import refuse_unknown_variables

    refuse_unknown_variables()
    load_settings(args.config)
    print(f"The settings from {config_file(args.config) or 'the environment'} are in order.")
    return 0
