from __future__ import annotations

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

import worker.kafka_io.client
import worker.live
from tests.support.parsers import leaves
from tests.support.processes import run_python
from tests.support.settings_file import KEY, settings_file
from worker import errors
from worker.cli import EXIT_CODES, build_parser, main
from worker.commands import config as config_verbs
from worker.commands import terminal
from worker.commands.parsing import arguments_of
from worker.demo.session import DemoOptions
from worker.errors import SettingsError, UnreachableError, WorkerError
from worker.kafka_io import topic_setup
from worker.offline import replay
from worker.settings.mistakes import ENV_PREFIX
from worker.settings.sections import Settings

ROOT = Path(__file__).parents[2]


pytestmark = pytest.mark.usefixtures("own_surroundings")


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return settings_file(tmp_path)


def test_every_verb_has_a_command_and_every_argument_a_meaning() -> None:
    for verb in leaves(build_parser()):
        assert callable(verb.get_default("command")), verb.prog
        assert all(action.help for action in arguments_of(verb)), verb.prog


def test_help_and_the_settings_load_nothing_that_is_slow() -> None:
    code = (
        "import sys, worker.cli\n"
        "try: worker.cli.main(['--help'])\n"
        "except SystemExit as end: assert end.code == 0\n"
        "light = {'kafka', 'numpy', 'pydantic'} & set(sys.modules)\n"
        "worker.cli.main(['config', 'show'])\n"
        "heavy = {'kafka', 'numba', 'pyarrow', 'river', 'sklearn'} & set(sys.modules)\n"
        "sys.exit(f'{light} {heavy}' if light or heavy else 0)"
    )
    ended = run_python(code, **{f"{ENV_PREFIX}ENTITY_KEY": KEY})
    assert (ended.stderr, ended.returncode) == ("", 0)
    assert "exit codes:" in ended.stdout


def test_a_worker_starts_without_scikit_learn_the_drift_tests_or_scipy_s_statistics() -> None:
    code = (
        "import sys, worker.live.app\n"
        "heavy = {'sklearn', 'scipy.stats', 'river.drift'} & set(sys.modules)\n"
        "sys.exit(f'{heavy}' if heavy else 0)"
    )
    ended = run_python(code)
    assert (ended.stderr, ended.returncode) == ("", 0)


ERRORS: list[type[WorkerError]] = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WorkerError)
]


def test_every_exit_code_is_documented_and_each_belongs_to_one_error() -> None:
    codes = [kind.exit_code for kind in ERRORS]
    assert len(codes) == len(set(codes))
    assert set(codes) | {0, 130, 141} == set(EXIT_CODES)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_of_ours_is_one_message_and_its_exit_code(
    kind: type[WorkerError], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise kind("the reason")

    monkeypatch.setattr(config_verbs, "check", fail)
    assert main(["config", "check"]) == kind.exit_code
    assert capsys.readouterr() == ("", "fraud-worker: the reason\n")


def test_an_error_steers_no_terminal_and_shows_no_card_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: argparse.Namespace) -> int:
        raise SettingsError("\x1b]0;title\x07 4111111111111111\nand a second line")

    monkeypatch.setattr(config_verbs, "check", fail)
    assert main(["config", "check"]) == 2
    shown = "fraud-worker: \\x1b]0;title\\x07 ************1111\nand a second line\n"
    assert capsys.readouterr() == ("", shown)


def ended_run(*arguments: str, code: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command `run` in a process without settings, and without a terminal."""
    program = f"import sys, worker.cli\n{code}\nsys.exit(worker.cli.main(sys.argv[1:]))"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("FRAUD_WORKER")}
    return subprocess.run(
        [sys.executable, "-c", program, "run", *arguments],
        env=environment | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    ("thread", "unloaded"),
    [
        ("", "unloaded\n"),
        ("threading.Thread(target=threading.Event().wait, daemon=True).start()", ""),
        ("threading.Thread(target=time.sleep, args=(0.3,)).start()", "unloaded\n"),
    ],
)
def test_a_process_that_leaves_a_daemon_thread_behind_unloads_nothing_under_it(
    thread: str, unloaded: str
) -> None:
    code = (
        "import atexit, threading, time, worker.cli\n"
        "class Library:\n"
        "    def __del__(self): print('unloaded')\n"
        "library = Library()\n"
        "atexit.register(print, 'closed')\n"
        f"{thread}\n"
        "print('decided', end=' ')\n"
        "worker.cli.end_process(6)"
    )
    ended = run_python(code)
    assert (ended.stdout, ended.stderr, ended.returncode) == (f"decided closed\n{unloaded}", "", 6)


def test_what_ends_a_worker_is_json_where_its_log_is() -> None:
    ended = ended_run()
    assert ended.returncode == SettingsError.exit_code
    [line] = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (line["level"], line["error"], line["exit_code"]) == ("CRITICAL", "SettingsError", 2)
    assert "entity_key is required" in line["message"]
    as_text = ended_run("--log-format", "text")
    assert as_text.stderr.startswith("fraud-worker: settings from the environment:")


def test_a_bug_that_ends_a_worker_is_json_too() -> None:
    bug = "from worker.settings import loading\nloading.load_settings = lambda _: 1 / 0"
    ended = ended_run(code=bug)
    assert ended.returncode == 1
    [line] = [json.loads(line) for line in ended.stderr.splitlines()]
    assert (line["level"], line["error"]) == ("CRITICAL", "ZeroDivisionError")
    assert "Traceback" in line["traceback"]
    assert ended_run("--log-format", "text", code=bug).stderr.startswith("Traceback")


def test_the_level_of_the_log_is_an_option() -> None:
    code = "import logging; from worker.settings import loading\n"
    code += "def look(_): logging.getLogger('worker').info('fine'); sys.exit(0)\nloading.load_settings = look"
    assert "fine" in ended_run(code=code).stderr
    assert "fine" not in ended_run("--log-level", "warning", code=code).stderr


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["rnu"], "did you mean 'run'?"),
        (["alerts", "tial"], "did you mean 'tail'?"),
        (["alerts", "tail", "--form-beginning"], "did you mean '--from-beginning'?"),
        (["run", "--log-format", "jsn"], "did you mean 'json'?"),
        (["dead-letters", "list", "--sumary"], "did you mean '--summary'?"),
    ],
)
def test_a_word_that_is_misspelt_is_answered_with_the_one_that_is_meant(
    arguments: list[str], meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert meant in capsys.readouterr().err


def test_a_word_that_is_like_no_other_is_answered_with_all(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["xyzzy"])
    err = capsys.readouterr().err
    assert "did you mean" not in err
    assert "dead-letters" in err


@pytest.mark.parametrize("arguments", [[], ["alerts"], ["config"]])
def test_the_command_alone_prints_its_help(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"usage: {' '.join(['fraud-worker', *arguments])}")
    assert "verbs:" in out
    assert err == ""


def test_ctrl_c_ends_quietly(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(config_verbs, "check", interrupt)
    assert main(["config", "check"]) == 130
    assert capsys.readouterr() == ("", "")


def test_a_reader_that_leaves_is_no_error(config: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "worker", "config", "show", "--config", str(config)]
    try:
        ended = subprocess.run(
            command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True, check=False
        )
    finally:
        os.close(writer)
    assert (ended.stderr, ended.returncode) == ("", 141)


def test_people_read_a_log_of_kafka_python_now_and_then_and_of_the_worker_always(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now_s = 100.0
    monkeypatch.setattr(terminal, "time", SimpleNamespace(monotonic=lambda: now_s))
    terminal.log_for_a_person()
    for now_s in (100.0, 100.3, 109.9, 110.0):
        logging.getLogger("kafka.net").error("no broker at %s", now_s)
        logging.getLogger("worker").warning("we, at %s", now_s)
    logged = capsys.readouterr().err
    assert [f"no broker at {at}" in logged for at in (100.0, 100.3, 109.9, 110.0)] == [
        True,
        False,
        False,
        True,
    ]
    assert logged.count("we, at") == 4


CSV = """\
TX,card_id,event_time,amount,SHOP,DEVICE,fraud,known
a,c1,1704067200000,1.5,s,d,0,
b,c2,1704153600000,2.5,s,d,1,1704200000000
c,c1,1704240000000,3.5,s,d,0,
"""


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv"
    path.write_text(CSV, encoding="utf-8")
    return path


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What `replay` was called with; nothing goes to Kafka."""
    calls: list[Any] = []

    def send(_: Settings, dataset: Any, options: Any, progress: Any) -> replay.Totals:
        calls.append((dataset, options))
        progress(1, 4)
        progress(4, 4)
        return replay.Totals(3, 1, 1, 0, 1, 0.5)

    monkeypatch.setattr(replay, "replay", send)
    monkeypatch.setattr(worker.kafka_io.client, "wait_for_brokers", lambda settings, timeout_s: None)  # noqa: ARG005
    return calls


def test_replay_reads_the_file_as_the_options_say_and_prints_the_totals(
    config: Path, rows: Path, sent: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--fraud-column", "fraud", "--label-time-column", "known", "--label-delay-days", "1"]
    pace = ["--from", "2024-01-02", "--to", "2024-01-03T00:00:01+00:00", "--rate", "10", "--speed", "3600"]
    assert main(["replay", str(rows), "--config", str(config), *options, *pace]) == 0
    [(dataset, how)] = sent
    assert how == replay.ReplayOptions(rate=10, speed=3600, frauds_only=False)
    assert dataset.transaction_id.to_pylist() == ["b", "c"]
    assert dataset.label_time_ms.tolist() == [1_704_200_000_000, 1_704_240_000_000 + 86_400_000]
    out, err = capsys.readouterr()
    assert "3 transactions to fraud.transactions.v1" in out
    assert "1 fraud and 1 legit labels to fraud.labels.v1" in out
    assert "1 labels become known only after today" in out
    assert "10 records/s" in out  # 3 transactions and 2 labels in half a second
    assert err.splitlines() == ["replay:  20 % of 4", "replay: 100 % of 4"]


def test_replay_without_labels_says_how_to_name_them(
    config: Path, rows: Path, sent: list[Any], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(rows), "--config", str(config)]) == 0
    assert sent[0][0].is_fraud is None
    assert "--fraud-column" in capsys.readouterr().out
    assert main(["replay", str(rows), "--config", str(config), "--frauds-only"]) == 2


@pytest.mark.parametrize(
    "wrong",
    [
        ["no-such-verb"],
        ["replay"],
        ["replay", "f.csv", "--rate", "0"],
        ["replay", "f.csv", "--speed", "fast"],
        ["replay", "f.csv", "--label-delay-days", "-1"],
        ["replay", "f.csv", "--label-delay-days", "inf"],
        ["replay", "f.csv", "--from", "yesterday"],
        ["topics", "create", "--partitions", "0"],
        ["kafka", "--port", "65536"],
        ["kafka", "--port", "0"],
        ["demo", "--config", "worker.toml"],  # it has settings of its own
        ["alerts", "tail", "--last", "0"],
        ["alerts", "tail", "--since", "noon"],
        ["alerts", "tail", "-n", "5", "--from-beginning"],
        ["dead-letters", "list", "--limit", "all"],
    ],
)
def test_wrong_arguments_end_with_usage_and_code_two(
    wrong: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(wrong)
    assert raised.value.code == 2
    assert capsys.readouterr().err.startswith("usage: fraud-worker")


def test_topics_create_prints_what_it_created_and_what_existed(
    config: Path, sent: list[Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Any] = []

    def create(_: Settings, *numbers: Any) -> list[topic_setup.TopicReport]:
        asked.append(numbers)
        return [topic_setup.TopicReport("one", 6, True), topic_setup.TopicReport("three", 6, False)]

    monkeypatch.setattr(topic_setup, "create", create)
    wanted = ["--partitions", "6", "--replication", "3", "--retention-days", "-1"]
    assert main(["topics", "create", "--config", str(config), *wanted]) == 0
    assert asked == [(6, 3, -1)]
    assert sent == []
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["one      6 partitions  created", "three    6 partitions  exists, left as it is"]
    assert "kept for ever" in lines[2]


def test_without_kafka_nothing_is_created(
    config: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(f"{ENV_PREFIX}KAFKA__BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setattr(terminal, "WAIT_FOR_KAFKA_S", 0.2)
    assert main(["topics", "create", "--config", str(config)]) == UnreachableError.exit_code
    assert "kafka.bootstrap = '127.0.0.1:1' does not answer" in capsys.readouterr().err


def test_run_configures_logging_and_hands_its_settings_to_the_worker(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Settings] = []

    def serve(settings: Settings) -> int:
        given.append(settings)
        return 0

    application = SimpleNamespace(run=serve)
    monkeypatch.setitem(sys.modules, "worker.live.app", application)
    monkeypatch.setattr(worker.live, "app", application, raising=False)
    assert main(["run", "--config", str(config)]) == 0
    assert given[0].kafka.group == "from-file"


def test_kafka_runs_a_broker_as_its_options_say_until_it_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def wait() -> None:
        raise KeyboardInterrupt

    @contextmanager
    def broker(port: int, data_dir: Path) -> Iterator[SimpleNamespace]:
        yield SimpleNamespace(bootstrap=f"127.0.0.1:{port}", folder=data_dir, wait=wait)

    monkeypatch.setitem(sys.modules, "worker.broker.embedded", SimpleNamespace(EmbeddedKafka=broker))
    assert main(["kafka", "--port", "1234", "--data-dir", str(tmp_path)]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first.startswith(f"Kafka answers at 127.0.0.1:1234; its data are in {tmp_path}.")
    assert last == "Kafka stopped."


def test_demo_passes_its_options_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[DemoOptions] = []

    def show(options: DemoOptions, console: Console) -> int:
        assert not console.is_terminal
        given.append(options)
        return 0

    monkeypatch.setattr("worker.demo.session.run_demo", show)
    picture = tmp_path / "demo.svg"
    options = ["--duration", "20", "--bootstrap", "b:1", "--keep-topics", "--picture", str(picture)]
    assert main(["demo"]) == main(["demo", *options]) == 0
    assert given == [DemoOptions(120.0), DemoOptions(20.0, "b:1", True, picture)]


def test_a_demo_that_would_be_too_short_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["demo", "--duration", "5"])
    assert "--duration: '5' is not a number of 15 or more" in capsys.readouterr().err


def test_the_demo_keeps_topics_only_in_a_given_kafka(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--keep-topics"]) == 2
    assert "--keep-topics needs --bootstrap" in capsys.readouterr().err
