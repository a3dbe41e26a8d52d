"""The settings with their origins and meanings, as TOML that can be read back."""

from __future__ import annotations

import json
import math
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import BaseModel, SecretStr
from pydantic_settings import EnvSettingsSource

from worker.settings.sections import Settings

MASK = "********"


class _Entry(NamedTuple):
    """A setting; `section` is empty outside any."""

    section: str
    name: str
    value: Any
    origin: str
    meaning: str | None

    @classmethod
    def of(
        cls,
        section: str,
        values: BaseModel,
        name: str,
        from_file: Mapping[str, Any],
        from_environment: Mapping[str, Any],
    ) -> _Entry:
        origin = _origin(values, name, from_file, from_environment)
        return cls(section, name, getattr(values, name), origin, type(values).model_fields[name].description)

    @property
    def dotted(self) -> str:
        """Its name with that of its section."""
        return f"{self.section}.{self.name}" if self.section else self.name


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
    for it in _entries(settings, from_file, EnvSettingsSource(Settings)()):
        value = MASK if isinstance(it.value, SecretStr) else "inf" if it.value == math.inf else it.value
        yield {
            "name": it.dotted,
            "value": json.loads(json.dumps(value, default=str)),
            "origin": it.origin,
            "meaning": it.meaning,
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
    section = ""
    for it in _entries(settings, from_file, from_environment):
        if it.section != section:
            section = it.section
            yield ""
            yield f"[{section}]"
        comment = f"{it.origin}: {it.meaning}" if it.meaning else it.origin
        setting = f"# {it.name} is not set" if it.value is None else f"{it.name} = {as_toml(it.value)}"
        yield f"{setting}  # {comment}"


def changed(settings: Settings) -> dict[str, str]:
    """Return the settings that differ from their defaults, as TOML by their dotted names; secrets are masked."""
    plain = Settings.model_construct(entity_key=None)  # type: ignore[arg-type]
    default = {it.dotted: it.value for it in _entries(plain, {}, {})}
    return {
        it.dotted: as_toml(it.value) for it in _entries(settings, {}, {}) if it.value != default[it.dotted]
    }


def _entries(
    settings: Settings, from_file: Mapping[str, Any], from_environment: Mapping[str, Any]
) -> Iterator[_Entry]:
    """Yield every setting: first those outside any section, as TOML wants it."""
    names = list(Settings.model_fields)
    sections = [name for name in names if isinstance(getattr(settings, name), BaseModel)]
    for name in names:
        if name not in sections:
            yield _Entry.of("", settings, name, from_file, from_environment)
    for section in sections:
        values = getattr(settings, section)
        of_file, of_environment = from_file.get(section, {}), from_environment.get(section, {})
        for name in type(values).model_fields:
            yield _Entry.of(section, values, name, of_file, of_environment)


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
