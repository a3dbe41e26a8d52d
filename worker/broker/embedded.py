"""A real Kafka broker in a child process, for the demo, the tests and the benchmarks.

`EmbeddedKafka` runs one KRaft node of Apache Kafka. Maven downloads the jars once into a cache folder; nothing else
on the machine changes. It is no production broker: one node, no replication, no TLS.
"""

from __future__ import annotations

import atexit
import base64
import logging
import random
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from kafka.errors import KafkaError

from worker.broker.jars import INSTEAD, fetch_jars, find_java
from worker.errors import BrokerError
from worker.kafka_io.admin import AdminClient
from worker.signals import held_back, run_process

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
STOP_TIMEOUT_S = 20

_QUIET = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"

# Below every system's range of ephemeral ports. A client that retries while the broker is down could otherwise get
# the broker's port as its own and connect to itself.
_PORTS = range(20_000, 32_000)

_NO_LIMIT = str(2**63 - 1)
_PROPERTIES = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    "offsets.topic.num.partitions": "4",
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    # Replayed traffic has timestamps of its own day: Kafka must neither delete nor refuse it.
    "log.retention.ms": "-1",
    "log.message.timestamp.type": "CreateTime",
    "log.message.timestamp.before.max.ms": _NO_LIMIT,
    "log.message.timestamp.after.max.ms": _NO_LIMIT,
}


class EmbeddedKafka:
    """One KRaft node of Apache Kafka on 127.0.0.1, as a context manager.

    Parameters
    ----------
    port
        Port of the broker; None chooses a free one.
    data_dir
        Folder of the data, which stays afterwards; None makes a temporary one, which `close()` deletes.
    properties
        Further server properties, which override the built-in ones.
    listeners
        Further listeners, as NAME://host:port; the properties say which protocol each has.
    start_timeout_s
        How long a start may take.

    Raises
    ------
    BrokerError
        On entry or `start()`: Java or Maven is missing, the port is taken, or Kafka does not start. The data folder
        stays then, and the message names it.
    """

    def __init__(
        self,
        port: int | None = None,
        data_dir: Path | None = None,
        properties: Mapping[str, str] | None = None,
        listeners: Sequence[str] = (),
        start_timeout_s: float = 90.0,
    ) -> None:
        self.port = port or free_port()
        self._controller_port = free_port()
        self._given_dir = data_dir
        self._properties = dict(properties or {})
        self._listeners = tuple(listeners)
        self._start_timeout_s = start_timeout_s
        self._folder: Path | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._failed = False

    @property
    def bootstrap(self) -> str:
        """The broker's address, as clients take it."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int | None:
        """Id of the running process; None if it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    @property
    def folder(self) -> Path:
        """Folder of the configuration, the broker's log and the data; the first access makes it."""
        if self._folder is None:
            with held_back():  # a signal in between would leave a folder that `close()` does not know
                made = self._given_dir or Path(tempfile.mkdtemp(prefix="fraud-worker-kafka-"))
                try:
                    made.mkdir(parents=True, exist_ok=True)
                except OSError as error:
                    raise BrokerError(
                        f"--data-dir = {str(made)!r} cannot be made ({error.strerror}): name a folder that this user "
                        "may write"
                    ) from None
                self._folder = made.resolve()
        return self._folder

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Start the node, with the data of an earlier run if there are any, and wait until it answers."""
        if self.pid is not None:
            return
        java = find_java()
        jars = fetch_jars()
        for port in (self.port, self._controller_port):
            _require_free(port)
        atexit.register(self.close)
        # Kafka unpacks native libraries into the folder of temporary files, where a killed broker would leave them.
        command = [java, "-Xmx512m", f"-Djava.io.tmpdir={self.folder}", "-cp", f"{jars}/*", _QUIET]
        try:
            self._format(command)
            self._launch(command)
            self._await_answer()
        except BaseException as error:
            self._failed = isinstance(error, Exception)
            self.kill()
            self.close()
            raise

    def stop(self) -> None:
        """Shut the node down in order; its data stay for the next `start()`."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the node, as a crash would; its data stay for the next `start()`."""
        self._end(signal.SIGKILL)

    def restart(self) -> None:
        """Stop in order and start again, at the same address with the same data."""
        self.stop()
        self.start()

    def close(self) -> None:
        """Stop, and delete the data folder if it is a temporary one and the broker has not failed."""
        if self._process is not None and self._process.poll() not in (None, 0):
            self._failed = True
        self.stop()
        atexit.unregister(self.close)
        if self._folder is None or self._given_dir is not None:
            return
        if self._failed:
            log.warning("the broker failed; its logs are kept in %s", self._folder)
        else:
            shutil.rmtree(self._folder, ignore_errors=True)
        self._folder = None

    def check(self) -> None:
        """Raise an error if the broker has ended by itself.

        Raises
        ------
        BrokerError
            It has; the message has the end of its log, and names the file.
        """
        if self._process is not None and self._process.poll() is not None:
            raise BrokerError(self._report("Kafka ended by itself"))

    def wait(self) -> None:
        """Wait for as long as the broker runs.

        Raises
        ------
        BrokerError
            The broker ended by itself.
        """
        if self._process is not None:
            self._process.wait()
            self.check()

    def _format(self, command: Sequence[str]) -> None:
        (self.folder / "server.properties").write_text(self._server_properties(), encoding="utf-8")
        if (self.folder / "data" / "meta.properties").exists():
            return
        tool = [*command, "kafka.tools.StorageTool", "format", "-t", cluster_id(), "-c", "server.properties"]
        with self._log_file() as out:
            streams = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": out}
            code = run_process(tool, cwd=self.folder, **streams).returncode
        if code != 0:
            raise BrokerError(self._report(f"formatting the data folder failed with code {code}"))

    def _launch(self, command: Sequence[str]) -> None:
        with self._log_file() as out, held_back():
            self._process = subprocess.Popen(
                [*command, "kafka.Kafka", "server.properties"],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,  # the terminal sends Ctrl-C to this process, not to the broker
            )

    def _await_answer(self) -> None:
        deadline = time.monotonic() + self._start_timeout_s
        while not (_listens(self.port) and _answers(self.bootstrap)):
            if self.pid is None:
                raise BrokerError(self._report("Kafka ended while starting"))
            if time.monotonic() > deadline:
                raise BrokerError(self._report(f"Kafka gave no answer within {self._start_timeout_s:.0f} s"))
            time.sleep(0.05)

    def _end(self, by: signal.Signals) -> None:
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.send_signal(by)
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._process = None

    def _server_properties(self) -> str:
        reached = ",".join((f"PLAINTEXT://{self.bootstrap}", *self._listeners))
        addresses = {
            "listeners": f"{reached},CONTROLLER://{HOST}:{self._controller_port}",
            "advertised.listeners": reached,
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "log.dirs": str(self.folder / "data"),
        }
        merged = {**_PROPERTIES, **addresses, **self._properties}
        return "".join(f"{name}={value}\n" for name, value in merged.items())

    @contextmanager
    def _log_file(self) -> Iterator[int]:
        with (self.folder / "broker.log").open("ab") as file:
            yield file.fileno()

    def _report(self, what: str) -> str:
        path = self.folder / "broker.log"
        tail = "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])
        return f"{what}. The whole log is in {path}; it ends with:\n{tail}\n{INSTEAD}"


def cluster_id() -> str:
    """Return a random cluster id, as Kafka writes them: 16 bytes in URL-safe base64.

    Its first byte is 0: else the id could begin with a dash, which Kafka's tool takes for an option.
    """
    return base64.urlsafe_b64encode(b"\0" + secrets.token_bytes(15)).decode().rstrip("=")


def free_port() -> int:
    """Return a free port of 127.0.0.1."""
    # At random: processes that start at the same moment seldom try the same port.
    for port in random.sample(_PORTS, 100):
        if _is_free(port):
            return port
    raise BrokerError(f"no free port found on {HOST} between {_PORTS.start} and {_PORTS.stop}")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # As the broker binds it: connections of a former broker that linger in TIME_WAIT do not take the port.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _require_free(port: int) -> None:
    if not _is_free(port):
        raise BrokerError(
            f"Port {port} of {HOST} is taken, perhaps by another broker: choose another with --port. {INSTEAD}"
        )


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def _answers(bootstrap: str) -> bool:
    """Return whether the broker lists itself as part of the cluster; while it is fenced, it does not."""
    try:
        with AdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=10_000) as admin:
            return bool(admin.describe_cluster()["brokers"])
    except KafkaError:
        return False
