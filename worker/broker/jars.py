"""Finds Java and downloads Apache Kafka's jars for the embedded broker."""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import re
import shutil
import subprocess
import tempfile
from importlib import resources
from pathlib import Path

from worker.errors import BrokerError
from worker.signals import run_process

log = logging.getLogger(__name__)

MIN_JAVA = 17
CACHE_VARIABLE = "FRAUD_WORKER_CACHE"
FETCH_TIMEOUT_S = 900
INSTEAD = (
    "Or use a broker that already runs: BOOTSTRAP=host:port make demo, "
    "or FRAUD_WORKER__KAFKA__BOOTSTRAP=host:port for the other commands."
)
_INSTALL = "Debian, Ubuntu: apt-get install {debian}; macOS: brew install {brew}."
_INSTALL_JAVA = _INSTALL.format(debian="default-jre-headless", brew="openjdk")
_INSTALL_MAVEN = _INSTALL.format(debian="maven", brew="maven")


def find_java() -> str:
    """Return the path of a Java runtime that is new enough: that of `JAVA_HOME` if it is set, else of `PATH`.

    Raises
    ------
    BrokerError
        There is none, or it is older than Kafka needs.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    where = "in JAVA_HOME" if home else "on the PATH"
    need = f"The built-in Kafka broker needs Java {MIN_JAVA} or newer"
    if java is None:
        raise BrokerError(f"{need}, and there is no java {where}. {_INSTALL_JAVA} {INSTEAD}")
    ended = run_process([java, "-version"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    major = java_major(ended.stderr + ended.stdout)
    if ended.returncode != 0 or major is None:
        raise BrokerError(f"{need}, and {java} does not print its version. {_INSTALL_JAVA} {INSTEAD}")
    if major < MIN_JAVA:
        raise BrokerError(f"{need}, and {java} is Java {major}. {_INSTALL_JAVA} {INSTEAD}")
    return java


def java_major(output: str) -> int | None:
    """Return the major version in the output of `java -version`; None if it has none.

    Examples
    --------
    >>> java_major('openjdk version "17.0.15" 2025-04-15'), java_major('java version "1.8.0_402"')
    (17, 8)
    """
    found = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(found[1]) if found else None


def cache_folder() -> Path:
    """Return the folder of downloads: `FRAUD_WORKER_CACHE`, else `~/.cache/fraud-worker`."""
    given = os.environ.get(CACHE_VARIABLE)
    return Path(given).expanduser().resolve() if given else Path.home() / ".cache" / "fraud-worker"


def are_fetched() -> bool:
    """Return whether Kafka's jars are in the cache."""
    return _jars_folder(_pom()).is_dir()


def _pom() -> bytes:
    return resources.files("worker.broker").joinpath("kafka-pom.xml").read_bytes()


def _jars_folder(pom: bytes) -> Path:
    # Named by the pom, so that another version of Kafka gets another folder.
    return cache_folder() / f"kafka-{hashlib.sha256(pom).hexdigest()[:12]}"


def fetch_jars() -> Path:
    """Return the folder of Kafka's jars, which Maven downloads the first time.

    The folder appears whole or not at all, and only one of several processes downloads it.

    Raises
    ------
    BrokerError
        Maven is missing or fails.
    """
    pom = _pom()
    jars = _jars_folder(pom)
    if not jars.is_dir():
        cache = jars.parent
        try:
            cache.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise BrokerError(
                f"the cache {cache} cannot be made ({error.strerror}): name a folder that this user may write as "
                f"{CACHE_VARIABLE}"
            ) from None
        with (cache / "fetch.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not jars.is_dir():
                _run_maven(pom, jars)
    return jars


def _run_maven(pom: bytes, jars: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise BrokerError(
            "Maven downloads the built-in Kafka broker the first time, and there is no mvn on the PATH. "
            f"{_INSTALL_MAVEN} {INSTEAD}"
        )
    log.info("downloading Apache Kafka by Maven into %s (44 MB, once)", jars)
    with tempfile.TemporaryDirectory(prefix="fetching-", dir=jars.parent) as folder:
        (Path(folder) / "pom.xml").write_bytes(pom)
        command = [maven, "-q", "-B", "-C", "dependency:copy-dependencies", "-DoutputDirectory=jars"]
        try:
            ended = run_process(
                command, FETCH_TIMEOUT_S, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
        except subprocess.TimeoutExpired as error:
            raise BrokerError(f"Maven did not end within {FETCH_TIMEOUT_S} s. {INSTEAD}") from error
        if ended.returncode != 0:
            output = (ended.stdout + ended.stderr).strip()[-2000:]
            raise BrokerError(f"Maven could not download Apache Kafka:\n{output}\n{INSTEAD}")
        (Path(folder) / "jars").rename(jars)
