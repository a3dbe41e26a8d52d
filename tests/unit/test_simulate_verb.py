from __future__ import annotations

import argparse
import dataclasses
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker.kafka_io.client
from worker.cli import main
from worker.commands import simulate
from worker.commands.parsing import Parser, verbs_of
from worker.offline import replay
from worker.offline.dataset import NEVER, TruthColumns, read_dataset
from worker.settings.fields import TransactionFields
from worker.settings.sections import Settings
from worker.simulation import FIELDS, Traffic

DAY_MS = 86_400_000
SMALL = ["--cards", "100", "--merchants", "50", "--days", "10", "--prevalence", "0.05"]
KEY = "00112233445566778899aabbccddeeff"


pytestmark = pytest.mark.usefixtures("own_surroundings")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.toml"
    path.write_text(
        f"""
        entity_key = "{KEY}"
        [transaction]
        transaction_id = "TX"
        time_format = "iso8601"
        entities = ["SHOP"]
        categorical = ["country", "mcc"]
        [label]
        label = "verdict"
        """,
        encoding="utf-8",
    )
    return path


def test_a_file_needs_no_settings_and_the_command_at_the_end_judges_a_worker_on_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "traffic.parquet"
    assert main(["simulate", str(path), *SMALL]) == 0
    out, err = capsys.readouterr()
    read = read_dataset(path, FIELDS, TruthColumns("is_fraud", "label_time"))
    assert read.is_fraud is not None
    frauds = int(read.is_fraud.sum())
    assert f"{len(read):,} transactions of 100 cards in 10 days\n{frauds} frauds, prevalence 5" in out
    kinds = {name: int(count) for name, count in re.findall(r"^  (\w+) +(\d+)$", out, re.MULTILINE)}
    assert (len(kinds), sum(kinds.values())) == (4, frauds)
    assert "simulate: 100 %" in err
    shell = out[out.index("cat >") :]
    settings, command = re.fullmatch(
        r"cat > simulated\.toml <<END\n(.*)END\n(fraud-worker .*)\n", shell, re.DOTALL
    ).groups()  # type: ignore[union-attr]
    monkeypatch.chdir(tmp_path)
    Path("simulated.toml").write_text(settings.replace("$(openssl rand -hex 16)", KEY), encoding="utf-8")
    assert main(command.split()[1:]) == 0
    assert re.search(rf"^ *transactions +{len(read):,}\b", capsys.readouterr().out, re.MULTILINE)


def test_a_file_that_exists_is_not_overwritten_unless_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, labels = tmp_path / "a.jsonl", tmp_path / "a.labels.jsonl"
    path.write_text("the user's", encoding="utf-8")
    assert main(["simulate", str(path), *SMALL]) == 2
    assert f"{path} exists: name another file, or overwrite it with --force" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8") == "the user's"
    path.unlink()
    labels.write_text("the user's", encoding="utf-8")
    assert main(["simulate", str(path), *SMALL]) == 2
    assert labels.read_text(encoding="utf-8") == "the user's"
    assert not path.exists()
    assert main(["simulate", str(path), *SMALL, "--force"]) == 0
    assert labels.read_text(encoding="utf-8") != "the user's"


def test_what_is_printed_to_paste_overwrites_no_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("worker.toml").write_text("the user's", encoding="utf-8")
    Path("simulated.toml").write_text("the user's", encoding="utf-8")
    assert main(["simulate", "a.parquet", *SMALL]) == 0
    out = capsys.readouterr().out
    assert "cat > simulated-2.toml <<END" in out
    assert "--config simulated-2.toml" in out


def test_arguments_that_are_not_given_keep_their_defaults_which_the_help_names() -> None:
    parser = Parser()
    simulate.add_to(verbs_of(parser))
    nothing = parser.parse_args(["simulate", "--to-kafka"])
    assert simulate._traffic(nothing) == dataclasses.replace(Traffic(), legit_labels=0.0)
    [verb] = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction)).choices.values()
    helps = {action.dest: action.help or "" for action in verb._actions}
    for field in dataclasses.fields(Traffic):
        if field.name in helps and field.name != "legit_labels":
            said = "never" if field.default is None else f"{field.default}".removesuffix(".0")
            assert helps[field.name].endswith(f"(default: {said})"), field.name
    assert "2024-01-01" in helps["start"]


def test_every_argument_reaches_the_traffic() -> None:
    parser = Parser()
    simulate.add_to(verbs_of(parser))
    given = "--cards 7 --merchants 8 --days 9 --per-card-day 1.5 --prevalence 0.01 --pattern-change-day 4 --seed 3"
    more = "--start 2024-02-03 --label-delay-days 5 --legit-labels 0.5"
    args = parser.parse_args(["simulate", "a.csv", *given.split(), *more.split()])
    assert simulate._traffic(args) == Traffic(
        cards=7, merchants=8, days=9, per_card_day=1.5, prevalence=0.01, pattern_change_day=4, seed=3,
        start_ms=1_706_918_400_000, label_delay_days=5.0, legit_labels=0.5,
    )  # fmt: skip


def test_settings_name_the_fields_and_notes_say_what_differs(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.csv"
    assert main(["simulate", str(path), "--config", str(config), *SMALL]) == 0
    out, err = capsys.readouterr()
    header = path.read_text(encoding="utf-8").splitlines()[0]
    assert header.startswith('"TX","card_id","event_time","amount","SHOP","channel","country","distance_km"')
    assert "[transaction] declares 'mcc', which is not simulated: left out" in err
    assert "merchant_id is written as 'SHOP'" in err
    assert "does not declare channel, distance_km" in err
    assert "fraud-worker backtest" not in out  # it would miss 'mcc'
    assert "take it out of a copy of the settings" in err
    theirs_alone = tmp_path / "fewer.toml"
    theirs_alone.write_text(config.read_text(encoding="utf-8").replace(', "mcc"', ""), encoding="utf-8")
    assert main(["simulate", str(path), "--config", str(theirs_alone), *SMALL, "--force"]) == 0
    out, _ = capsys.readouterr()
    assert f"fraud-worker backtest {path} --config {theirs_alone} --fraud-column" in out
    assert "cat >" not in out
    theirs = TransactionFields(transaction_id="TX", time_format="iso8601", entities=("SHOP",))
    assert len(read_dataset(path, theirs)) > 1_000


def test_json_lines_have_their_labels_beside_them_by_default(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["simulate", str(tmp_path / "a.jsonl"), "--config", str(config), *SMALL]) == 0
    assert '"verdict":"fraud"' in (tmp_path / "a.labels.jsonl").read_text(encoding="utf-8")
    assert main(["simulate", str(tmp_path / "b.jsonl"), "--labels", str(tmp_path / "l.jsonl"), *SMALL]) == 0
    lines = (tmp_path / "l.jsonl").read_text(encoding="utf-8").splitlines()
    assert '"label":"fraud"' in lines[0]
    assert f"l.jsonl: {len(lines)} labels" in capsys.readouterr().out
    assert main(["simulate", str(tmp_path / "c.csv"), "--labels", str(tmp_path / "m.jsonl"), *SMALL]) == 0
    assert (tmp_path / "m.jsonl").read_text(encoding="utf-8").splitlines() == lines
    assert {each.name for each in tmp_path.glob("*.jsonl")} == {
        "a.jsonl", "a.labels.jsonl", "b.jsonl", "l.jsonl", "m.jsonl"
    }  # fmt: skip


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `replay` was called with; nothing goes to Kafka."""
    calls: list[Any] = []

    def send(_: Settings, dataset: Any, options: Any, progress: Any) -> replay.Totals:
        calls.append((dataset, options))
        progress(len(dataset), len(dataset))
        return replay.Totals(len(dataset), 5, 0, 0, 2, 0.5)

    monkeypatch.setattr(replay, "replay", send)
    monkeypatch.setattr(worker.kafka_io.client, "wait_for_brokers", lambda settings, timeout_s: None)  # noqa: ARG005
    return calls


def test_through_kafka_the_last_day_is_yesterday_and_records_look_live(
    config: Path, sent: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["--to-kafka", "--rate", "500", "--speed", "3600", *SMALL]
    assert main(["simulate", "--config", str(config), *asked]) == 0
    [(dataset, how)] = sent
    assert how == replay.ReplayOptions(rate=500, speed=3600, stamp_now=True)
    ago_ms = time.time_ns() // 1_000_000 - dataset.event_time_ms
    assert 0 <= ago_ms.min() < 2 * DAY_MS
    assert 9 * DAY_MS < ago_ms.max() <= 11 * DAY_MS
    assert dataset.entities.keys() == {"SHOP"}
    assert (dataset.label_time_ms[~dataset.is_fraud] == NEVER).all()
    assert (dataset.label_time_ms[dataset.is_fraud] != NEVER).all()
    out, err = capsys.readouterr()
    assert "5 fraud and 0 legit labels to fraud.labels.v1" in out
    assert "2 labels become known only after today" in out
    assert "'mcc'" in err


def test_a_share_of_the_legitimate_can_be_labelled_too(config: Path, sent: list[Any]) -> None:
    assert main(["simulate", "--config", str(config), "--to-kafka", "--legit-labels", "0.5", *SMALL]) == 0
    labelled = sent[0][0].label_time_ms != NEVER
    assert np.mean(labelled[~sent[0][0].is_fraud]) == pytest.approx(0.5, abs=0.05)


WRONG: dict[str, tuple[list[str], str]] = {
    "neither file nor Kafka": ([], "name either a file to write, such as traffic.parquet, or --to-kafka"),
    "a file and Kafka": (["a.csv", "--to-kafka"], "name either a file"),
    "a pace for a file": (["a.csv", "--speed", "60"], "--rate and --speed are for --to-kafka"),
    "a file of labels for Kafka": (["--to-kafka", "--labels", "l.jsonl"], "--labels is for a file"),
    "labels as CSV": (["a.csv", "--labels", "l.csv"], "l.csv: the name must end in one of .jsonl"),
    "an unknown format": (["a.txt"], "a.txt: the name must end in one of .parquet"),
    "labels over the transactions": (
        ["a.jsonl", "--labels", "./a.jsonl"],
        "--labels = a.jsonl: the transactions go there",
    ),
    "nothing at all": (
        ["a.csv", "--cards", "1", "--days", "1", "--per-card-day", "0.001", "--prevalence", "0"],
        "--cards = 1, --days = 1 and --per-card-day = 0.001 make no transaction at all",
    ),
    "too much fraud": (["a.csv", "--prevalence", "0.5"], "--prevalence = 0.5: make it a share from 0 to 0.2"),
    "no number": (["a.csv", "--prevalence", "nan"], "--prevalence = nan"),
    "a change too late": (["a.csv", "--days", "5", "--pattern-change-day", "5"], "make it a day from 1 to 4"),
    "no fraud in so few": (
        ["a.csv", *SMALL, "--prevalence", "0.00001"],
        "no fraud at all: raise it, or make 50,000 or more",
    ),
    "an hour of a day": (["a.csv", "--start", "2024-01-01T10:00"], "--start = 2024-01-01T10:00"),
    "the future": (
        ["--to-kafka", "--start", "2098-01-01"],
        "--start = 2098-01-01: the last of 60 days lies in the future",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_done_is_refused_with_its_fix_before_anything_is_done(
    case: str, config: Path, sent: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    arguments, message = WRONG[case]
    monkeypatch.chdir(tmp_path)
    assert main(["simulate", "--config", str(config), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert sent == []
    assert [*tmp_path.iterdir()] == [config]


def test_through_kafka_settings_are_needed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["simulate", "--to-kafka"]) == 2
    assert "entity_key is required" in capsys.readouterr().err


def test_json_lines_are_judged_with_their_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.jsonl"
    assert main(["simulate", str(path), *SMALL]) == 0
    assert (
        f"fraud-worker backtest {path} --config simulated.toml --labels {tmp_path / 'a.labels.jsonl'}"
        in capsys.readouterr().out
    )
