"""What is wrong with settings, in words that name the setting, its value and the fix; they quote no secret."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel, SecretStr, ValidationError

ENV_PREFIX: Final = "FRAUD_WORKER__"


def explain_settings(settings: type[BaseModel], error: ValidationError) -> str:
    """Return one line for each mistake.

    Parameters
    ----------
    settings
        The class that the values were read into.
    error
        What pydantic found.
    """
    # Of a list that is too short each part that is missing is a mistake of its own.
    found = (_explain_one(settings, dict(item)) for item in error.errors(include_url=False))
    return "\n".join(dict.fromkeys(found))


def explain_variables(settings: type[BaseModel]) -> str:
    """Return one line for each variable of the environment that must hold JSON and does not."""
    return "\n".join(
        f"  {name}{_shown(settings, path, value)}: {_as_json(path)}"
        for name, path, value in _set_variables()
        if _is_written_as_json(settings, path) and not _is_json(value)
    )


def _explain_one(settings: type[BaseModel], item: dict[str, Any]) -> str:
    path = [str(part) for part in item["loc"]]
    name = ".".join(path) or "settings"
    if item["type"] == "missing":
        *before, last = path
        if last.isdecimal():
            return f"  {'.'.join(before)}{_shown(settings, before, item['input'])}: this list is too short"
        variable = ENV_PREFIX + "__".join(path).upper()
        return f"  {name} is required: set it in the file, or {variable} in the environment"
    if item["type"] == "extra_forbidden":
        meant = _meant(settings, path)
        question = f": did you mean {meant}?" if meant else ": remove it or correct its spelling"
        return f"  {name} is no setting{question} (`fraud-worker config show` lists all)"
    # TOML knows lists, no tuples.
    is_list = item["type"] == "tuple_type"
    said = 'this is a list, such as ["merchant_id"]' if is_list else item["msg"].removeprefix("Value error, ")
    return f"  {name}{_shown(settings, path, item['input'])}: {said}"


def _meant(settings: type[BaseModel], path: list[str]) -> str | None:
    """Return the setting that is most like an unknown one: in its section, else by the same name in another."""
    sections = {
        name: list(field.annotation.model_fields)
        for name, field in settings.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    if len(path) == 1:
        return next(iter(get_close_matches(path[0], [*settings.model_fields], n=1)), None)
    section, name = path[0], path[1]
    close = get_close_matches(name, sections.get(section, ()), n=1)
    if close:
        return f"{section}.{close[0]}"
    # Part of a name, such as `budget_cases_per_day`, is not like the whole of it for difflib.
    part = [it for it in sections.get(section, ()) if name in it]
    if len(part) == 1:
        return f"{section}.{part[0]}"
    elsewhere = [it for it in get_close_matches(section, sections, n=len(sections)) if name in sections[it]]
    elsewhere += [it for it in sections if name in sections[it]]
    return f"{elsewhere[0]}.{name}" if elsewhere else None


def _set_variables() -> Iterator[tuple[str, list[str], str]]:
    """Yield name, path and value of each variable that looks like a setting."""
    for name, value in sorted(os.environ.items()):
        if name.upper().startswith(ENV_PREFIX):
            yield name, name[len(ENV_PREFIX) :].lower().split("__"), value


def _shown(settings: type[BaseModel], path: list[str], value: object) -> str:
    """Return the value as text, or nothing if it is a secret or a whole section, which may hold one."""
    annotation = _annotation(settings, path[:2])
    # What stands under an unknown name may be a secret whose name is misspelt.
    may_be_shown = len(path) > 1 and annotation is not None and SecretStr.__name__ not in str(annotation)
    return f" = {value!r}" if may_be_shown else ""


def _annotation(settings: type[BaseModel], path: list[str]) -> Any:
    """Return the type of a setting; None if no setting has that name."""
    found: Any = settings
    for name in path:
        fields = found.model_fields if isinstance(found, type) and issubclass(found, BaseModel) else {}
        found = fields[name].annotation if name in fields else None
    return found


def _is_written_as_json(settings: type[BaseModel], path: list[str]) -> bool:
    annotation = _annotation(settings, path)
    is_section = isinstance(annotation, type) and issubclass(annotation, BaseModel)
    return is_section or str(annotation).startswith(("tuple[", "dict["))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _as_json(path: list[str]) -> str:
    if len(path) == 1:
        return f"this is a whole section: set {ENV_PREFIX}{path[0].upper()}__NAME for each of its settings"
    return 'write a list as JSON, such as [1, 2] or ["merchant_id", "device_id"]'
