"""The settings with their origins and meanings, as TOML that can be read back."""

from __future__ import annotations

import json
import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_settings import EnvSettingsSource

from worker.errors import SettingsError
from worker.settings.mistakes import ENV_PREFIX
from worker.settings.sections import Settings

MASK = "********"


def report(settings: Settings, file: Path | None) -> Iterator[str]:
    """Yield a line for each setting, with its origin and its meaning; secrets are masked.

    Parameters
    ----------
    settings
        The settings.
    file
        The file that they were read from, if any.
    """
    from_file = tomllib.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    yield from _report(settings, from_file, EnvSettingsSource(Settings)())


def rows(settings: Settings, file: Path | None) -> Iterator[dict[str, Any]]:
    """Yield name, value, origin and meaning of each setting, for programs; secrets are masked, inf is a text."""
    from_file = tomllib.loads(file.read_text(encoding="utf-8")) if file is not None else {}
    from_environment = EnvSettingsSource(Settings)()
    top, sections = _split(settings)
    for name in top:
        yield _row(settings, name, name, from_file, from_environment)
    for section in sections:
        values = getattr(settings, section)
        of_file, of_environment = from_file.get(section, {}), from_environment.get(section, {})
        for name in type(values).model_fields:
            yield _row(values, name, f"{section}.{name}", of_file, of_environment)


def _row(
    section: BaseModel,
    name: str,
    dotted: str,
    from_file: Mapping[str, Any],
    from_environment: Mapping[str, Any],
) -> dict[str, Any]:
    value = getattr(section, name)
    if isinstance(value, SecretStr):
        value = MASK
    elif value == math.inf:
        value = "inf"
    return {
        "name": dotted,
        "value": json.loads(json.dumps(value, default=str)),
        "origin": _origin(section, name, from_file, from_environment),
        "meaning": type(section).model_fields[name].description,
    }


def _origin(
    section: BaseModel, name: str, from_file: Mapping[str, Any], from_environment: Mapping[str, Any]
) -> str:
    # Entities that join fields become combinations.
    names = {name, "entities"} if name == "combined" and getattr(section, name) else {name}
    if not names.isdisjoint(from_environment):
        return "environment"
    return "default" if names.isdisjoint(from_file) else "file"


def defaults() -> Iterator[str]:
    """Yield the same for the defaults, whatever the file and the environment set."""
    yield from _report(Settings.model_construct(entity_key=None), {}, {})  # type: ignore[arg-type]


def _report(
    settings: Settings, from_file: Mapping[str, Any], from_environment: Mapping[str, Any]
) -> Iterator[str]:
    top, sections = _split(settings)
    yield from _lines(settings, top, from_file, from_environment)
    for name in sections:
        yield ""
        yield f"[{name}]"
        section = getattr(settings, name)
        fields = type(section).model_fields
        yield from _lines(section, list(fields), from_file.get(name, {}), from_environment.get(name, {}))


def changed(settings: Settings) -> dict[str, str]:
    """Return the settings that differ from their defaults, as TOML by their dotted names; secrets are masked."""
    top, sections = _split(settings)
    plain = Settings.model_construct(entity_key=None)  # type: ignore[arg-type]
    values = {name: (getattr(settings, name), getattr(plain, name)) for name in top}
    for section in sections:
        ours, theirs = getattr(settings, section), getattr(plain, section)
        values |= {
            f"{section}.{name}": (getattr(ours, name), getattr(theirs, name))
            for name in type(ours).model_fields
        }
    return {name: as_toml(value) for name, (value, default) in values.items() if value != default}


def refuse_unknown_variables(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse variables that look like settings and are none, which pydantic ignores.

    One with a single underscore behind the prefix looks like a setting where only underscores are wrong: others may be
    those that an orchestrator sets for a service of such a name, as FRAUD_WORKER_SERVICE_HOST, and for one named
    fraud-worker-health FRAUD_WORKER_HEALTH_PORT.

    Raises
    ------
    SettingsError
        There are some; the message names them.
    """
    known = tuple(f"{ENV_PREFIX}{name}".upper() for name in Settings.model_fields)
    bare = {name.replace("_", "") for name in _variables()}
    ours = [
        name
        for name in environment
        if name.upper().startswith(ENV_PREFIX)
        or (name.upper().replace("_", "") in bare and not _is_of_a_service(name, environment))
    ]
    unknown = [
        name for name in ours if name.upper() not in known and not name.upper().startswith(_nested(known))
    ]
    if unknown:
        close = get_close_matches(unknown[0].upper(), list(_variables()), n=1)
        question = f" (did you mean {close[0]}?)" if close else ""
        raise SettingsError(
            f"{', '.join(sorted(unknown))}: no such setting{question}; correct the name or unset it"
        )


def _is_of_a_service(name: str, environment: Mapping[str, str]) -> bool:
    """Return whether an orchestrator has set a variable for a service: the port of one whose host it sets, too."""
    return name.endswith("_PORT") and f"{name.removesuffix('_PORT')}_SERVICE_HOST" in environment


def _variables() -> Iterator[str]:
    """Yield the name of each variable that is a setting."""
    for name, field in Settings.model_fields.items():
        of_section = getattr(field.annotation, "model_fields", None)
        yield from (f"{ENV_PREFIX}{name}__{it}".upper() for it in of_section or ())
        if of_section is None:
            yield f"{ENV_PREFIX}{name}".upper()


def _nested(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{name}__" for name in names)


def _split(settings: Settings) -> tuple[list[str], list[str]]:
    """Return the names of the settings outside any section, which come first in TOML, and those of the sections."""
    names = list(Settings.model_fields)
    sections = [name for name in names if isinstance(getattr(settings, name), BaseModel)]
    return [name for name in names if name not in sections], sections


def _lines(
    section: BaseModel, names: list[str], from_file: Mapping[str, Any], from_environment: Mapping[str, Any]
) -> Iterator[str]:
    for name in names:
        origin = _origin(section, name, from_file, from_environment)
        meaning = type(section).model_fields[name].description
        comment = f"{origin}: {meaning}" if meaning else origin
        value = getattr(section, name)
        setting = f"# {name} is not set" if value is None else f"{name} = {as_toml(value)}"
        yield f"{setting}  # {comment}"


def as_toml(value: Any) -> str:
    """Return a value as TOML writes it; secrets are masked."""
    if isinstance(value, SecretStr):
        return f'"{MASK}"'
    if value == math.inf:
        return "inf"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{as_toml(name)} = {as_toml(it)}' for name, it in value.items())}}}"
    # TOML writes all other values as JSON does: texts, numbers, booleans, and lists of them.
    return json.dumps(value, default=str, ensure_ascii=False)
