"""Packages that only a comparison needs."""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

from worker.offline.compare.strategy import LeftOutError

# Which package brings a module, and what installs it.
_BROUGHT_BY: Final = {
    "imblearn": ("imbalanced-learn", "fraud-worker[compare]"),
    "lightgbm": ("LightGBM", "fraud-worker[compare]"),
    "pyod": ("PyOD", "fraud-worker[compare]"),
    "xgboost": ("XGBoost", "xgboost-cpu"),
}


def imported(module: str) -> Any:
    """Return a module of an optional package.

    Raises
    ------
    LeftOutError
        It is not installed, or does not load here; the message says what to install.
    """
    try:
        return import_module(module)
    except ImportError as error:
        top = module.partition(".")[0]
        package, requirement = _BROUGHT_BY[top]
        missing = isinstance(error, ModuleNotFoundError) and error.name == top
        why = f"needs {package}" if missing else f"{package} does not load here ({error})"
        raise LeftOutError(f"{why}: pip install '{requirement}'") from error
