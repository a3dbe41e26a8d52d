"""What the repository may hold, checked on the files that git tracks."""

from __future__ import annotations

import ast
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "deploy",
    "docker-compose.yml",
    "models",
    "pyproject.toml",
    "tests",
    "worker",
}
REGISTRY = re.compile(r"//[a-z0-9.-]*(pypi|pythonhosted|npmjs|maven|debian|golang|crates)[a-z0-9.-]*", re.I)
MACHINE_PATH = re.compile(r"(?:^|[^\w.$}/-])/(?:work|farm|root|home|Users)(?:/|\b)", re.MULTILINE)
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|NotImpl" r"ementedError)\b")
UNMERGED = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
UNSAFE_LOADERS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "skops"}


@cache
def tracked() -> tuple[str, ...]:
    """Paths that git tracks and that are there, relative to the root."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True)
    return tuple(path for path in listed.stdout.split("\0") if path and (ROOT / path).is_file())


def texts(suffix: str = "") -> dict[str, str]:
    """Contents of the tracked text files whose name ends so."""
    found = {}
    for path in tracked():
        content = (ROOT / path).read_bytes()
        if path.endswith(suffix) and b"\0" not in content:
            found[path] = content.decode("utf-8")
    return found


def product() -> dict[str, str]:
    return {path: text for path, text in texts(".py").items() if path.startswith(("models/", "worker/"))}


def lines_with(pattern: re.Pattern[str], files: dict[str, str]) -> list[str]:
    return [
        f"{path}:{number}: {line.strip()[:120]}"
        for path, text in files.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def imported(text: str) -> set[str]:
    """First names of what a source imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_the_top_level_holds_only_what_belongs_there() -> None:
    assert {path.split("/")[0] for path in tracked()} <= TOP_LEVEL


def test_no_file_names_a_package_registry() -> None:
    assert lines_with(REGISTRY, texts()) == []


def test_no_file_names_a_path_of_somebodys_machine() -> None:
    assert lines_with(MACHINE_PATH, texts()) == []


def test_nothing_is_left_unfinished() -> None:
    assert lines_with(UNFINISHED, texts(".py")) == []
    assert lines_with(UNMERGED, texts()) == []


def test_the_product_unpickles_nothing() -> None:
    unsafe = {path: imported(text) & UNSAFE_LOADERS for path, text in product().items()}
    assert {path: found for path, found in unsafe.items() if found} == {}
    assert lines_with(re.compile(r"allow_pickle\s*=\s*True"), product()) == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt"])
def test_every_pinned_dependency_carries_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
    pins = re.findall(r"^[a-z].*?(?=^[a-z]|\Z)", text, re.MULTILINE | re.DOTALL)
    assert len(pins) > 10
    assert [pin for pin in pins if "==" not in pin or "--hash=sha256:" not in pin] == []
    assert lines_with(re.compile(r"//|--(?:extra-)?index|--find-links"), {name: text}) == []


def test_what_is_deployed_is_what_is_tested() -> None:
    pins = [
        {*re.findall(r"^([a-z].*==\S+)", (ROOT / "deploy" / name).read_text(encoding="utf-8"), re.MULTILINE)}
        for name in ("requirements.txt", "requirements-dev.txt")
    ]
    assert pins[0] < pins[1]


@pytest.mark.parametrize(
    ("pattern", "line"),
    [
        (REGISTRY, "--index-url https:/" + "/" + "py" + "pi.example/simple"),
        (REGISTRY, "deb http:/" + "/deb.deb" + "ian.example/ stable"),
        (MACHINE_PATH, "cache = '" + "/ro" + "ot/.cache'"),
        (MACHINE_PATH, "/ho" + "me/me/fraud"),
        (UNFINISHED, "# TO" + "DO: later"),
    ],
)
def test_the_patterns_find_what_they_look_for(pattern: re.Pattern[str], line: str) -> None:
    assert lines_with(pattern, {"file": line}) == [f"file:1: {line}"]


def test_a_path_of_an_address_is_nobodys_machine() -> None:
    assert lines_with(MACHINE_PATH, {"file": "see https://example.org/home/ and ${BASE}/work/x"}) == []
