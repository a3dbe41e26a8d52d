"""The image's Dockerfile and docker-compose.yml, as far as a test without an engine can check them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.dashboard import DEPLOY, tool
from tests.support.repository import ROOT
from tests.tools.dockerfile import context, instructions
from worker.cli import build_parser
from worker.partition.pending import SEGMENT_ROWS
from worker.settings.loading import load_settings
from worker.settings.variables import refuse_unknown_variables
from worker.simulation import FIELDS

BIN = Path(sys.executable).parent
DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")
IGNORE = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8")
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LONG_LIVED = {"kafka", "worker", "prometheus", "grafana"}
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
WORKERS = [name for name, service in SERVICES.items() if service["image"].startswith("fraud-worker:")]

each_service = pytest.mark.parametrize("name", sorted(SERVICES))


def run(*command: str | Path) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def arguments_of(name: str) -> list[str]:
    """Return the arguments of every such instruction of the Dockerfile."""
    return [rest for instruction, rest in instructions(DOCKERFILE) if instruction == name]


def host_paths(service: dict[str, Any]) -> list[str]:
    return [volume.split(":")[0] for volume in service.get("volumes", ()) if volume.startswith(".")]


def needed_by(name: str) -> set[str]:
    """Return the services that start before that one."""
    needed = set(SERVICES[name].get("depends_on", {}))
    return needed.union(*map(needed_by, needed))


# The image


def test_the_linter_finds_nothing_in_the_dockerfile() -> None:
    run(BIN / "hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile")


def test_the_entrypoint_is_a_shell_script_that_parses() -> None:
    run("sh", "-n", DEPLOY / "entrypoint.sh")
    assert os.access(DEPLOY / "entrypoint.sh", os.X_OK)


def test_both_stages_have_one_pinned_base_which_a_label_names() -> None:
    bases = {base.partition(" AS ")[0] for base in arguments_of("FROM")}
    assert len(bases) == 1
    (base,) = bases
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+", base)
    assert f'base.name="docker.io/library/{base}"' in DOCKERFILE
    assert (
        f"Programming Language :: Python :: {base.split(':')[1][:4]}" in (ROOT / "pyproject.toml").read_text()
    )
    assert f"VERSION={VERSION}" in arguments_of("ARG")


def test_only_packages_of_known_hashes_are_installed() -> None:
    installs = [
        part
        for rest in arguments_of("RUN")
        for part in rest.split("&&")
        if " install " in part and "pip" in part
    ]
    assert len(installs) == 3
    for install in installs:
        assert "--no-deps" in install
        assert "--require-hashes" in install or "--no-index" in install
        assert "--no-cache-dir" in install


def test_the_build_tools_are_those_of_the_tests() -> None:
    pins = [
        set(re.findall(r"(?m)^([a-z].*==\S+)", (DEPLOY / name).read_text(encoding="utf-8")))
        for name in ("requirements-build.txt", "requirements-dev.txt")
    ]
    assert pins[0] < pins[1]
    assert any(pin.startswith("hatchling==") for pin in pins[0])


def test_the_image_runs_without_privileges_and_checks_its_health() -> None:
    assert re.fullmatch(r"[1-9]\d+:[1-9]\d+", arguments_of("USER")[-1])
    assert arguments_of("STOPSIGNAL") == ["SIGTERM"]
    assert "/healthz" in arguments_of("HEALTHCHECK")[0]
    assert arguments_of("ENTRYPOINT") == ['["entrypoint.sh"]']
    assert arguments_of("CMD") == ['["run"]']
    assert (DEPLOY / "entrypoint.sh").read_text(encoding="utf-8").endswith('exec fraud-worker "$@"\n')


@pytest.mark.parametrize(("status", "code"), [(200, 0), (204, 1), (503, 1)])
def test_the_health_check_reaches_the_worker_although_a_proxy_is_set(status: int, code: int) -> None:
    paths: list[str] = []

    class Worker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    check = json.loads(arguments_of("HEALTHCHECK")[0].partition("CMD ")[2])
    with HTTPServer(("127.0.0.1", 0), Worker) as worker:
        thread = threading.Thread(target=worker.serve_forever)
        thread.start()
        try:
            env = {"FRAUD_WORKER__HEALTH__PORT": str(worker.server_port), "http_proxy": "http://127.0.0.1:9"}
            done = subprocess.run([sys.executable, *check[1:]], env=env, capture_output=True, check=False)
        finally:
            worker.shutdown()
            thread.join()
    assert check[0] == "python"
    assert (paths, done.returncode) == (["/healthz"], code), done.stderr.decode()


def test_the_settings_in_the_image_are_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    found = dict(re.findall(r"(FRAUD_WORKER_\w+)=(\S+)", DOCKERFILE))
    assert set(found) == {
        "FRAUD_WORKER__HEALTH__HOST",
        "FRAUD_WORKER__HEALTH__PORT",
        "FRAUD_WORKER__WORKER__STATE_DIR",
    }
    monkeypatch.setenv("FRAUD_WORKER__ENTITY_KEY", "0" * 32)
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    settings = load_settings()
    refuse_unknown_variables()
    assert (settings.health.host, settings.health.port) == ("0.0.0.0", 8080)
    assert arguments_of("EXPOSE") == [str(settings.health.port)]


def test_what_is_copied_is_in_the_context_and_nothing_else_is(tmp_path: Path) -> None:
    stray = ("tests/x.py", "build/x", ".git/config", "worker/__pycache__/x.pyc", "models/x.nbi", ".env")
    wanted = ("LICENSE", "pyproject.toml", "worker/a/b.py", "models/x.py", "deploy/requirements.txt")
    for name in (*stray, *wanted):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert context(tmp_path, IGNORE) == sorted(wanted)
    copied = {word for rest in arguments_of("COPY") if "--from" not in rest for word in rest.split()[:-1]}
    copied = {name for name in copied if not name.startswith("--")}
    assert {name for name in copied if not (ROOT / name).exists()} == set()
    assert copied == set(re.findall(r"(?m)^!(\S+)$", IGNORE))


# docker-compose.yml


def test_the_file_is_of_the_compose_specification() -> None:
    run(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", ROOT / "docker-compose.yml")


def test_compose_reads_the_file_with_and_without_the_simulator() -> None:
    compose = tool("docker-compose", "docker-compose")
    for profile in ([], ["--profile", "simulate"]):
        run(compose, "-f", ROOT / "docker-compose.yml", *profile, "config", "-q")


def test_ci_installs_the_programs_that_the_tests_want() -> None:
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    sources = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    [wanted] = re.findall(r'(?m)^wanted="([a-z -]+)"$', script)
    assert set(re.findall(r'\btool\("[a-z-]+", "([a-z-]+)"\)', sources)) == set(wanted.split())


@each_service
def test_a_service_is_pinned_bounded_and_without_privileges(name: str) -> None:
    service = SERVICES[name]
    assert re.fullmatch(r"[a-z/-]+:v?\d+\.\d+\.\d+(-[a-z]+)?", service["image"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service["init"] is True
    assert service["mem_limit"]
    assert service["pids_limit"]
    assert re.fullmatch(r"\d+:\d+", service["user"])
    assert not service["user"].startswith("0:")
    assert service.get("read_only") is True or name == "kafka", (
        "its own start writes into the image's folders"
    )


@each_service
def test_a_service_listens_on_this_machine_alone(name: str) -> None:
    for port in SERVICES[name].get("ports", ()):
        assert port.startswith("127.0.0.1:")


@each_service
def test_a_service_mounts_what_is_there_and_only_reads_it(name: str) -> None:
    for path in host_paths(SERVICES[name]):
        assert (ROOT / path).exists()
    mounts = [volume for volume in SERVICES[name].get("volumes", ()) if volume.startswith(".")]
    assert all(mount.endswith(":ro") for mount in mounts)
    named = {volume.split(":")[0] for volume in SERVICES[name].get("volumes", ())} - set(
        host_paths(SERVICES[name])
    )
    assert named <= set(COMPOSE["volumes"])


@each_service
def test_a_service_waits_for_what_it_needs_and_reports_its_health(name: str) -> None:
    for needed, how in SERVICES[name].get("depends_on", {}).items():
        done = how["condition"] == "service_completed_successfully"
        assert done == (SERVICES[needed]["restart"] == "no")
        assert done or how["condition"] == "service_healthy"
    checked = "test" in SERVICES[name].get("healthcheck", {}) or name == "worker"  # its image has a check
    assert checked == (name in LONG_LIVED)


def test_nothing_of_an_older_format_is_left() -> None:
    assert set(COMPOSE) - {key for key in COMPOSE if key.startswith("x-")} == {"services", "volumes"}
    assert {name for name, service in SERVICES.items() if "profiles" in service} == {"simulator"}


def test_the_images_of_one_product_are_one() -> None:
    assert {SERVICES[name]["image"] for name in WORKERS} == {f"fraud-worker:{VERSION}"}
    assert {SERVICES[name]["user"] for name in WORKERS} == {arguments_of("USER")[-1]}
    assert sorted(WORKERS) == ["simulator", "topics", "worker"]


def test_one_service_builds_the_image_and_all_others_of_it_wait_for_that_one() -> None:
    # Compose may build services at the same time, and two that export one name disturb each other.
    assert [name for name, service in SERVICES.items() if "build" in service] == ["topics"]
    for name in WORKERS:
        assert name == "topics" or (SERVICES[name]["pull_policy"] == "never" and "topics" in needed_by(name))


def test_the_worker_of_the_stack_may_have_a_file_open_for_each_segment_of_heavy_traffic() -> None:
    # A thousand decisions a second over the 90 days that the default settings keep.
    assert SERVICES["worker"]["ulimits"]["nofile"] > 1_000 * 90 * 86_400 / SEGMENT_ROWS


def test_kafka_is_the_version_of_the_tests() -> None:
    pom = (ROOT / "worker" / "broker" / "kafka-pom.xml").read_text(encoding="utf-8")
    assert f"<version>{SERVICES['kafka']['image'].split(':')[1]}</version>" in pom


@pytest.mark.parametrize("name", WORKERS)
def test_the_settings_of_the_stack_load(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, value in SERVICES[name]["environment"].items():
        monkeypatch.setenv(variable, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    mounted = dict(volume.split(":")[:2][::-1] for volume in SERVICES[name]["volumes"])
    settings = load_settings(ROOT / mounted[SERVICES[name]["environment"]["FRAUD_WORKER_CONFIG"]])
    refuse_unknown_variables()
    listeners = SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"PLAINTEXT://{settings.kafka.bootstrap}" in listeners
    # The simulator sends the fields that the worker declares.
    assert settings.transaction == FIELDS


@pytest.mark.parametrize("name", WORKERS)
def test_the_commands_of_the_stack_are_commands(name: str) -> None:
    words = [re.sub(r"\$\{\w+:-(.*)\}", r"\1", word) for word in SERVICES[name]["command"]]
    assert callable(build_parser().parse_args(words).command)


def test_prometheus_scrapes_the_worker_and_grafana_asks_prometheus() -> None:
    prometheus = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    (job,) = prometheus["scrape_configs"]
    (target,) = job["static_configs"][0]["targets"]
    assert target == f"worker:{arguments_of('EXPOSE')[0]}"
    source = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/datasources/prometheus.yml").read_text(encoding="utf-8")
    )
    assert source["datasources"][0]["url"] == "http://prometheus:9090"
    provider = yaml.safe_load(
        (DEPLOY / "grafana/provisioning/dashboards/fraud-worker.yml").read_text(encoding="utf-8")
    )
    assert provider["providers"][0]["allowUiUpdates"] is False
    path = provider["providers"][0]["options"]["path"]
    assert f"./deploy/grafana/dashboards:{path}:ro" in SERVICES["grafana"]["volumes"]
    home = SERVICES["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert home == f"{path}/fraud-worker.json"


def test_grafana_keeps_the_plugins_that_it_cannot_replace_on_a_read_only_root() -> None:
    assert SERVICES["grafana"]["read_only"] is True
    assert SERVICES["grafana"]["environment"]["GF_PLUGINS_PREINSTALL_DISABLED"] == "true"


def test_prometheus_is_the_variant_that_has_what_checks_its_health() -> None:
    assert SERVICES["prometheus"]["healthcheck"]["test"][1] == "wget"
    assert SERVICES["prometheus"]["image"].endswith("-busybox")


def test_the_command_that_removes_everything_removes_services_of_profiles_too() -> None:
    profiles = {profile for service in SERVICES.values() for profile in service.get("profiles", ())}
    texts = [ROOT / "docker-compose.yml", DEPLOY / "README.md"]
    commands = [re.findall(r"docker compose.* down\b.*--volumes", path.read_text("utf-8")) for path in texts]
    assert all(commands)
    for command in (command for found in commands for command in found):
        assert all(f"--profile {profile} " in command for profile in profiles), command


def test_no_one_can_log_in_to_grafana() -> None:
    environment = SERVICES["grafana"]["environment"]
    assert environment["GF_AUTH_ANONYMOUS_ORG_ROLE"] == "Viewer"
    assert (
        environment["GF_AUTH_DISABLE_LOGIN_FORM"]
        == environment["GF_SECURITY_DISABLE_INITIAL_ADMIN_CREATION"]
        == "true"
    )
    assert not any("PASSWORD" in name for name in environment)
