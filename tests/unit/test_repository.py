"""What the repository may contain, checked on the files that git tracks."""

from __future__ import annotations

import ast
import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.repository import ROOT, tracked

MOST_LINES = 400
"""Of a module of the product, blank ones not counted: one subject, which a reader can hold in mind."""
TOP_LEVEL = {
    ".ci",
    ".gitignore",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "SECURITY.md",
    "deploy",
    "docker-compose.yml",
    "models",
    "pyproject.toml",
    "tests",
    "worker",
}
REGISTRY = re.compile(r"//[a-z0-9.-]*(pypi|pythonhosted|npmjs|maven|debian|golang|crates)[a-z0-9.-]*", re.I)
MACHINE_PATH = re.compile(r"(?:^|[^\w.$}/-])/(?:work|farm|root|home|Users)(?:/|\b)", re.MULTILINE)
UNFINISHED = re.compile(r"\b(?:TO" r"DO|FIX" r"ME|XX" r"X|HA" r"CK|raise NotImpl" r"ementedError)\b")
UNMERGED = re.compile(r"^(?:<{7}|>{7}) ", re.MULTILINE)
UNSAFE_LOADERS = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve", "skops"}


def texts(suffix: str = "") -> dict[str, str]:
    """Return the contents of the tracked text files whose names end in `suffix`."""
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
    """Return the first names of what a source imports."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            names.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            names.add((node.module or "").split(".")[0])
    return names


def test_the_top_level_holds_only_what_belongs_there() -> None:
    assert {path.split("/")[0] for path in tracked()} <= TOP_LEVEL


def test_the_readme_of_the_tests_names_files_that_exist() -> None:
    text = (ROOT / "tests" / "README.md").read_text(encoding="utf-8")
    named = re.findall(r"`((?:unit|contract|integration|support|tools)/[\w*]+\.py)`", text)
    assert len(named) > 50
    assert [path for path in named if not any((ROOT / "tests").glob(path))] == []


def test_no_file_names_a_package_registry() -> None:
    assert lines_with(REGISTRY, texts()) == []


def test_no_file_names_a_path_of_one_machine() -> None:
    assert lines_with(MACHINE_PATH, texts()) == []


def test_nothing_is_left_unfinished() -> None:
    assert lines_with(UNFINISHED, texts(".py")) == []
    assert lines_with(UNMERGED, texts()) == []


def test_no_module_of_the_product_is_too_long() -> None:
    lines = {path: sum(map(bool, text.splitlines())) for path, text in product().items()}
    assert {path: count for path, count in lines.items() if count > MOST_LINES} == {}


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


def pins(name: str) -> set[str]:
    """Return the pins of a file in `deploy/`, such as `numpy==2.3.5`."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8")
    return set(re.findall(r"(?m)^([a-z][\w.-]*==\S+)", text))


def test_what_is_deployed_is_what_is_tested() -> None:
    assert pins("requirements.txt") < pins("requirements-dev.txt")


def test_the_pins_are_what_the_project_asks_for() -> None:
    """`make lock` needs a network; that it was run after the last change of the dependencies shows here."""
    document = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    project = document["project"]
    optional = project["optional-dependencies"]
    extras = [one for name, extra in optional.items() if name != "quality" for one in extra]
    requested = {
        "requirements.txt": project["dependencies"],
        "requirements-dev.txt": [*project["dependencies"], *extras],
        "requirements-build.txt": document["build-system"]["requires"],
        # The strongest baselines are large; only `make quality-baselines` wants them.
        "requirements-quality.txt": [*project["dependencies"], *optional["quality"]],
    }
    for file, requirements in requested.items():
        versions: dict[str, list[str]] = {}
        for pin in pins(file):
            name, version = pin.split("==")
            versions.setdefault(name, []).append(version)
        for requirement in map(Requirement, requirements):
            if requirement.name == project["name"]:  # one extra names another
                continue
            pinned = versions.get(canonicalize_name(requirement.name), [])
            assert pinned, f"{file} pins no {requirement.name}"
            assert all(requirement.specifier.contains(one) for one in pinned), (
                file,
                str(requirement),
                pinned,
            )


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


def test_a_path_in_an_address_is_no_path_of_a_machine() -> None:
    assert lines_with(MACHINE_PATH, {"file": "see https://example.org/home/ and ${BASE}/work/x"}) == []
