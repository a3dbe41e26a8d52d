"""Refuses environment variables that look like settings and are none: pydantic ignores them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from difflib import get_close_matches

from worker.errors import SettingsError
from worker.settings.mistakes import ENV_PREFIX
from worker.settings.sections import Settings


def refuse_unknown_variables() -> None:
    """Refuse variables that look like settings and are none.

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
        for name in os.environ
        if name.upper().startswith(ENV_PREFIX)
        or (name.upper().replace("_", "") in bare and not _is_of_a_service(name, os.environ))
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
