"""The checkout that is tested, copies of it, and the commands of its Makefile."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

from worker.settings.mistakes import ENV_PREFIX

ROOT: Final = Path(__file__).parents[2]


def tracked() -> list[str]:
    """Return the paths that git tracks and that exist, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return [path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file()]


def copy_of_the_checkout(folder: Path) -> Path:
    """Copy what git tracks into a folder, for commands that write into the checkout."""
    for path in tracked():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, folder / path)
    return folder


def installed_make(folder: Path) -> Path:
    """Write a `make` that runs with the environment of the tests; return the folder to put first in PATH."""
    folder.mkdir()
    command = shlex.join([str(shutil.which("make")), *make_command()[1:]])
    (folder / "make").write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
    (folder / "make").chmod(0o755)
    return folder


def make_command(*arguments: str) -> list[str]:
    """Return the command that makes targets with the environment of the tests, which it never reinstalls."""
    venv = Path(sys.prefix)
    return ["make", f"VENV={venv}", "-o", f"{venv}/.installed", *arguments]


def make_environment(**changes: str) -> Mapping[str, str]:
    """Return the environment for `make_command`, without settings and options of the run that tests."""
    own = ("MAKEFLAGS", "MAKELEVEL", "MFLAGS")
    kept = {n: v for n, v in os.environ.items() if n not in own and not n.startswith(ENV_PREFIX.rstrip("_"))}
    return kept | changes


COMPILED: Final = {"PYTHONSAFEPATH": "1"}
"""In a copy of the checkout programs are then the installed ones, and not the copy's, whose loops are not compiled."""


def make(
    *arguments: str,
    folder: Path = ROOT,
    timeout_s: float = 300.0,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Make targets in a folder, to their end."""
    return subprocess.run(
        make_command(*arguments),
        cwd=folder,
        env=make_environment(**variables),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=timeout_s,
        check=False,
    )
