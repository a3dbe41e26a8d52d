"""The embedded broker without Kafka: its errors, and the download of its jars."""

from __future__ import annotations

import base64
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from worker.broker.embedded import HOST, EmbeddedKafka, cluster_id
from worker.broker.jars import are_fetched, fetch_jars, find_java, java_major
from worker.errors import BrokerError

OTHER_BROKER = "BOOTSTRAP=host:port make demo"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on the PATH, empty; nothing is cached and JAVA_HOME is not set."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("FRAUD_WORKER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.delenv("JAVA_HOME", raising=False)
    return folder


def install(folder: Path, name: str, script: str) -> Path:
    program = folder / name
    program.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    program.chmod(0o755)
    return program


def install_java(folder: Path, version: str = "21.0.1", otherwise: str = "exit 0") -> Path:
    """Install a program that prints a Java version when asked for it, and otherwise runs `otherwise`."""
    print_version = f'if [ "$1" = -version ]; then echo \'openjdk version "{version}"\' >&2; exit 0; fi'
    return install(folder, "java", f"{print_version}\n{otherwise}")


@pytest.fixture
def jars(programs: Path) -> Path:
    """Return a folder of jars that were downloaded before; there is no Maven any more."""
    mvn = install(programs, "mvn", "/bin/mkdir jars")
    assert not are_fetched()
    jars = fetch_jars()
    assert are_fetched()
    mvn.unlink()
    return jars


@pytest.mark.usefixtures("programs")
def test_missing_java_is_reported_with_what_to_install_and_the_other_way() -> None:
    with pytest.raises(BrokerError, match=r"needs Java 17 or newer.*no java on the PATH") as caught:
        EmbeddedKafka().start()
    assert "apt-get install default-jre-headless" in str(caught.value)
    assert OTHER_BROKER in str(caught.value)
    assert "FRAUD_WORKER__KAFKA__BOOTSTRAP=host:port" in str(caught.value)


def test_java_home_without_java_is_named(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(programs)
    monkeypatch.setenv("JAVA_HOME", str(programs / "nowhere"))
    with pytest.raises(BrokerError, match="no java in JAVA_HOME"):
        find_java()


def test_java_home_comes_before_the_path(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install_java(programs, version="11.0.2")
    (programs / "home" / "bin").mkdir(parents=True)
    chosen = install_java(programs / "home" / "bin")
    monkeypatch.setenv("JAVA_HOME", str(programs / "home"))
    assert find_java() == str(chosen)


def test_java_too_old_is_reported_with_its_version(programs: Path) -> None:
    install_java(programs, version="11.0.2")
    with pytest.raises(BrokerError, match=r"needs Java 17 or newer, and .*bin/java is Java 11\."):
        find_java()


def test_a_java_that_cannot_run_is_refused(programs: Path) -> None:
    install(programs, "java", "echo 'Unable to locate a Java Runtime.' >&2; exit 1")
    with pytest.raises(BrokerError, match="does not print its version"):
        find_java()


@pytest.mark.parametrize(
    ("output", "major"),
    [
        ('openjdk version "17.0.15" 2025-04-15', 17),
        ('java version "1.8.0_402"', 8),
        ('openjdk version "25" 2025-09-16 LTS', 25),
        ('Picked up JAVA_TOOL_OPTIONS: -Xmx1g\nopenjdk version "21-ea"', 21),
        ("bash: java: command not found", None),
    ],
)
def test_the_major_version_is_read_from_what_java_prints(output: str, major: int | None) -> None:
    assert java_major(output) == major


def test_missing_maven_is_reported_with_what_to_install_and_the_other_way(programs: Path) -> None:
    install_java(programs)
    with pytest.raises(BrokerError, match="no mvn on the PATH") as caught:
        EmbeddedKafka().start()
    assert "apt-get install maven" in str(caught.value)
    assert OTHER_BROKER in str(caught.value)


def test_downloaded_jars_need_no_maven(jars: Path) -> None:
    assert fetch_jars() == jars
    assert jars.is_dir()


def test_one_of_several_processes_downloads_the_jars(programs: Path, tmp_path: Path) -> None:
    install(programs, "mvn", f"echo run >> {tmp_path}/runs; /bin/mkdir jars; echo x > jars/kafka.jar")
    with ThreadPoolExecutor(4) as pool:
        folders = {folder.result() for folder in [pool.submit(fetch_jars) for _ in range(4)]}
    assert (tmp_path / "runs").read_text(encoding="utf-8") == "run\n"
    assert [path.name for folder in folders for path in folder.iterdir()] == ["kafka.jar"]


def test_a_failed_download_leaves_nothing_and_says_why(programs: Path, tmp_path: Path) -> None:
    install(programs, "mvn", "/bin/mkdir jars; echo x > jars/half.jar; echo 'no route to host'; exit 1")
    with pytest.raises(BrokerError, match="no route to host"):
        fetch_jars()
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["fetch.lock"]


@pytest.mark.usefixtures("jars")
def test_a_port_that_is_taken_is_named(programs: Path) -> None:
    install_java(programs)
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"Port {port} of 127.0.0.1 is taken"):
            EmbeddedKafka(port=port).start()


@pytest.mark.usefixtures("jars")
def test_a_broker_that_does_not_start_keeps_its_log_and_says_where(programs: Path, tmp_path: Path) -> None:
    install_java(programs, otherwise="echo 'the disk is full'; exit 1")
    with pytest.raises(BrokerError, match="the disk is full"):
        EmbeddedKafka().start()
    kept = list(tmp_path.glob("fraud-worker-kafka-*/broker.log"))
    assert [path.read_text(encoding="utf-8") for path in kept] == ["the disk is full\n"]


@pytest.mark.usefixtures("jars")
def test_what_java_unpacks_goes_into_the_brokers_own_folder(programs: Path, tmp_path: Path) -> None:
    install_java(programs, otherwise='echo "$@"; exit 1')
    with pytest.raises(BrokerError):
        EmbeddedKafka().start()
    [log] = tmp_path.glob("fraud-worker-kafka-*/broker.log")
    assert f"-Djava.io.tmpdir={log.parent} " in log.read_text(encoding="utf-8")


@pytest.mark.usefixtures("jars")
def test_a_broker_that_ends_while_starting_is_not_waited_for(programs: Path) -> None:
    install_java(
        programs, otherwise='for word; do last2=$last; last=$word; done; [ "$last2" = -c ] || exit 3'
    )
    with pytest.raises(BrokerError, match="Kafka ended while starting"):
        EmbeddedKafka(start_timeout_s=3600).start()


@pytest.mark.usefixtures("jars")
def test_given_properties_override_the_built_in_ones(programs: Path, tmp_path: Path) -> None:
    install_java(programs, otherwise="exit 1")
    broker = EmbeddedKafka(data_dir=tmp_path / "data", properties={"log.retention.ms": "1000"})
    with pytest.raises(BrokerError, match="formatting"):
        broker.start()
    lines = (tmp_path / "data" / "server.properties").read_text(encoding="utf-8").splitlines()
    assert "log.retention.ms=1000" in lines
    assert f"advertised.listeners=PLAINTEXT://127.0.0.1:{broker.port}" in lines
    assert len({line.split("=")[0] for line in lines}) == len(lines)


def test_no_cluster_id_looks_like_an_option() -> None:
    drawn = {cluster_id() for _ in range(1000)}
    assert len(drawn) == 1000
    assert {name[0] for name in drawn} <= {*"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"}
    assert {len(base64.urlsafe_b64decode(name + "==")) for name in drawn} == {16}


def test_a_folder_that_cannot_be_made_is_named_with_its_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BrokerError, match=r"--data-dir = .*file' cannot be made \(File exists\)"):
        _ = EmbeddedKafka(data_dir=tmp_path / "file").folder
    monkeypatch.setenv("FRAUD_WORKER_CACHE", str(tmp_path / "file"))
    with pytest.raises(BrokerError, match="FRAUD_WORKER_CACHE"):
        fetch_jars()
