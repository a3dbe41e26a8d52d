"""`config show` and `config check`: the settings that a worker would use."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import sys

from worker.commands.parsing import Verbs, add_group, add_verb


def add_to(verbs: Verbs) -> None:
    """Declare the verbs."""
    config = add_group(verbs, "config", "show or check the settings")
    parser = add_verb(config, "show", "print every setting with its origin and its meaning", show)
    parser.add_argument("--json", action="store_true", help="print one JSON list")
    add_verb(config, "check", "check the settings; the exit code is 2 if one is wrong", check)


def show(args: argparse.Namespace) -> int:
    """Print every setting with its origin and its meaning, or the defaults if the settings cannot be read."""
    from worker.errors import SettingsError
    from worker.settings.loading import config_file, load_settings
    from worker.settings.report import defaults, report, rows

    try:
        settings = load_settings(args.config)
    except SettingsError:
        # The list of settings is what helps to correct one: print it before the error.
        if args.json:
            raise
        print("\n".join(defaults()))
        sys.stdout.flush()
        raise
    if args.json:
        print(json.dumps(list(rows(settings, config_file(args.config))), indent=2, ensure_ascii=False))
        return 0
    print("\n".join(report(settings, config_file(args.config))))
    return 0


def check(args: argparse.Namespace) -> int:
    """Read the settings and print that they are valid."""
    from worker.settings.loading import config_file, load_settings

    load_settings(args.config)
    print(f"The settings from {config_file(args.config) or 'the environment'} are valid.")
    return 0
