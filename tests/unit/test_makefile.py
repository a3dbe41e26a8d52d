"""The Makefile's commands that need no broker, run in copies of the checkout."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from tests.support.repository import ROOT, copy_of_the_checkout, make, tracked

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
TARGETS = re.findall(r"(?m)^\.PHONY: (.*)$", MAKEFILE)[0].split()


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return copy_of_the_checkout(tmp_path / "checkout")


def test_help_lists_every_target_with_what_it_does() -> None:
    listed = re.findall(r"(?m)^make ([a-z-]+) +\S", make("help").stdout)
    assert listed == TARGETS
    assert make().stdout == make("help").stdout


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_has_a_recipe_that_make_can_read(target: str) -> None:
    done = make("--dry-run", target)
    assert done.returncode == 0, done.stdout
    assert "warning" not in done.stdout


@pytest.mark.parametrize(
    "path", ["Makefile", "deploy/README.md", "deploy/Dockerfile", "tests/tools/quality/README.md"]
)
def test_pins_are_installed_without_looking_for_what_they_depend_on(path: str) -> None:
    """They name everything; pip before 23.3 takes a newer release for one that is asked for with an extra, and ends."""
    text = (ROOT / path).read_text(encoding="utf-8").replace("\\\n", " ")
    installs = [line for line in re.split(r"\n|&&", text) if " install " in line and "-r " in line]
    assert installs
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes" in install


def test_compiled_loops_are_kept_for_each_state_of_the_files_that_hold_some(checkout: Path) -> None:
    def cache() -> str:
        printed = make("--print-data-base", "--dry-run", "help", folder=checkout).stdout
        found = re.search(r"(?m)^NUMBA_CACHE_DIR := (.*)$", printed)
        assert found is not None
        return found[1]

    def append(path: str) -> None:
        with (checkout / path).open("a", encoding="utf-8") as file:
            file.write("\n")

    before = cache()
    assert re.fullmatch(re.escape(f"{checkout}/build/numba/") + r"\d+", before)
    append("worker/cli.py")
    assert cache() == before
    append("models/arithmetic.py")
    after = cache()
    append("models/vocabulary.py")
    assert len({before, after, cache()}) == 3


def test_kafka_keeps_its_data_in_a_folder_that_is_named() -> None:
    assert "--data-dir 'kept here'" in make("--dry-run", "kafka", "DATA=kept here").stdout
    assert "--data-dir" not in make("--dry-run", "kafka").stdout


def test_format_repairs_what_the_linter_finds(checkout: Path) -> None:
    crooked = checkout / "worker" / "crooked.py"
    crooked.write_text('"""A module."""\nimport os\nNAMES   = [ "a",\n"b" ]\n', encoding="utf-8")
    done = make("format", folder=checkout)
    assert done.returncode == 0, done.stdout
    assert crooked.read_text(encoding="utf-8") == '"""A module."""\n\nNAMES = ["a", "b"]\n'


def test_the_schemas_of_the_checkout_are_those_that_make_writes(checkout: Path) -> None:
    shutil.rmtree(checkout / "deploy" / "schemas")
    done = make("schemas", folder=checkout)
    assert done.returncode == 0, done.stdout
    written = {path.name: path.read_bytes() for path in (checkout / "deploy" / "schemas").iterdir()}
    assert written == {path.name: path.read_bytes() for path in (ROOT / "deploy" / "schemas").iterdir()}


def test_clean_removes_what_was_created_and_nothing_else(checkout: Path) -> None:
    for created in ("build/bench.json", "dist/a.whl", "worker/live/__pycache__/app.pyc", ".ruff_cache/x"):
        (checkout / created).parent.mkdir(parents=True, exist_ok=True)
        (checkout / created).touch()
    done = make("clean", folder=checkout)
    assert done.returncode == 0, done.stdout
    left = {path.relative_to(checkout).as_posix() for path in checkout.rglob("*") if path.is_file()}
    assert left == set(tracked())


def test_make_faults_finds_the_long_runs() -> None:
    done = make("faults", "OPTIONS=--collect-only --quiet tests/integration")
    assert done.returncode == 0, done.stdout
    assert "test_a_worker_killed_twenty_times" in done.stdout
    assert "test_a_worker_killed_at_random" not in done.stdout
