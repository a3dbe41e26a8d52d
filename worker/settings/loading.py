"""Reads the settings from a TOML file and from the environment, which overrides it."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError
from pydantic_settings import EnvSettingsSource
from pydantic_settings import SettingsError as UnreadableVariableError

from worker.errors import SettingsError
from worker.settings.mistakes import ENV_PREFIX, explain_settings, explain_variables
from worker.settings.sections import Settings
from worker.settings.variables import refuse_unknown_variables

_NO_KEY: Final = "0" * 32
"""Stands in for `entity_key` where nothing is hashed."""


def config_file(path: Path | None = None) -> Path | None:
    """Return the settings file: the given one, else the one that `FRAUD_WORKER_CONFIG` names, else None."""
    named = path or os.environ.get("FRAUD_WORKER_CONFIG")
    return Path(named) if named else None


def load_settings(
    path: Path | None = None, *, keyless: bool = False, ignore_unknown_variables: bool = False
) -> Settings:
    """Read the settings from a TOML file and the environment.

    Parameters
    ----------
    path
        The file. None takes the one that `FRAUD_WORKER_CONFIG` names; if that is not set either, there is no file.
    keyless
        Whether `entity_key` may be missing, for verbs whose hashes leave the process nowhere: their users need not know
        the secret.
    ignore_unknown_variables
        Whether variables that look like settings and are none may be there, for a caller that checks them itself.

    Raises
    ------
    SettingsError
        A setting is wrong or missing, with a line for each, its value and the fix; or a variable names no setting.
    """
    if not ignore_unknown_variables:
        refuse_unknown_variables()
    chosen = config_file(path)
    values = _read_toml(chosen) if chosen else {}
    if keyless:
        values = {"entity_key": _NO_KEY} | values
    where = str(chosen) if chosen else "the environment"
    try:
        return Settings(**_with_one_time_format(values))
    except ValidationError as error:
        raise SettingsError(f"settings from {where}:\n{explain_settings(Settings, error)}") from None
    except UnreadableVariableError:
        raise SettingsError(f"settings from the environment:\n{explain_variables(Settings)}") from None


def load_settings_if_any(path: Path | None = None) -> Settings | None:
    """Read the settings, which need no `entity_key`; None where neither a file nor the environment holds any."""
    given = config_file(path) or any(name.upper().startswith(ENV_PREFIX) for name in os.environ)
    if given:
        return load_settings(path, keyless=True)
    refuse_unknown_variables()
    return None


def _with_one_time_format(values: dict[str, Any]) -> dict[str, Any]:
    """Return the values, with the time format of transactions for labels too unless labels have their own."""
    sources = EnvSettingsSource(Settings)(), values

    def format_of(section: str) -> Any:
        sections = [source.get(section) for source in sources]
        return next(
            (it["time_format"] for it in sections if isinstance(it, Mapping) and "time_format" in it), None
        )

    label = values.get("label", {})
    if format_of("label") is not None or format_of("transaction") is None or not isinstance(label, Mapping):
        return values
    return values | {"label": {**label, "time_format": format_of("transaction")}}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(
            f"settings file {path}: {error.strerror}; name an existing file with --config"
        ) from None
    # Beside what is not TOML: a number or a nesting without end.
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"settings file {path} is not TOML: {error}") from None
