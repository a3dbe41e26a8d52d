from __future__ import annotations

import http.client
import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.waiting import wait_for
from worker.errors import SettingsError
from worker.telemetry.health import MOST_CONNECTIONS, HealthServer, WorkerStatus

LIMIT_S = 60.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def status(clock: Clock) -> WorkerStatus:
    return WorkerStatus(clock)


@pytest.fixture
def server(status: WorkerStatus) -> Iterator[HealthServer]:
    with HealthServer(
        "127.0.0.1", 0, status=status, render=lambda: b"up 1\n", stalled_after_s=LIMIT_S
    ) as running:
        yield running


def ask(server: HealthServer, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()
    finally:
        connection.close()


def body(answer: tuple[int, dict[str, str], bytes]) -> Any:
    assert answer[1]["content-type"] == "application/json"
    return json.loads(answer[2])


def test_metrics_are_served_as_rendered(server: HealthServer) -> None:
    status, headers, text = ask(server, "/metrics?name=x")
    assert (status, text) == (200, b"up 1\n")
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert headers["server"] == "fraud-worker"


def test_a_moving_poll_loop_is_healthy(server: HealthServer, clock: Clock, status: WorkerStatus) -> None:
    clock.now_s += 1_000.0
    status.beat()
    clock.now_s += LIMIT_S
    answer = ask(server, "/healthz")
    assert answer[0] == 200
    assert body(answer) == {"status": "ok", "last_poll_age_s": LIMIT_S, "stalled_after_s": LIMIT_S}


def test_a_poll_loop_that_stands_still_is_not(server: HealthServer, clock: Clock) -> None:
    clock.now_s += LIMIT_S + 0.5
    answer = ask(server, "/healthz")
    assert answer[0] == 503
    assert body(answer) == {"status": "stalled", "last_poll_age_s": 60.5, "stalled_after_s": LIMIT_S}


def test_a_worker_is_ready_once_it_decides_and_says_what_it_waits_for(
    server: HealthServer, status: WorkerStatus
) -> None:
    answer = ask(server, "/readyz")
    assert (answer[0], body(answer)["reason"]) == (503, "starting")
    status.not_ready("restoring partition 2")
    answer = ask(server, "/readyz")
    assert (answer[0], body(answer)["reason"]) == (503, "restoring partition 2")
    status.ready()
    answer = ask(server, "/readyz")
    assert (answer[0], body(answer)) == (200, {"status": "ready"})


@pytest.mark.parametrize("path", ["/", "/metrics/", "/healthz/x", "/%2e%2e/etc/passwd", "/metricsx"])
def test_any_other_path_is_not_found(server: HealthServer, path: str) -> None:
    assert ask(server, path)[0] == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/metrics", "/elsewhere"])
def test_any_other_method_is_not_allowed(server: HealthServer, method: str, path: str) -> None:
    status, headers, _ = ask(server, path, method)
    assert (status, headers["allow"]) == (405, "GET, HEAD")


def test_head_answers_without_a_body(server: HealthServer) -> None:
    status, headers, text = ask(server, "/metrics", "HEAD")
    assert (status, headers["content-length"], text) == (200, "5", b"")


def test_metrics_that_fail_to_render_are_an_error_and_not_the_end(status: WorkerStatus) -> None:
    def fail() -> bytes:
        raise RuntimeError("broken")

    with HealthServer("127.0.0.1", 0, status=status, render=fail, stalled_after_s=LIMIT_S) as server:
        assert ask(server, "/metrics")[0] == 500
        assert ask(server, "/healthz")[0] == 200


def test_a_taken_port_is_an_error_that_names_the_setting_its_value_and_the_fix(
    server: HealthServer, status: WorkerStatus
) -> None:
    second = HealthServer("127.0.0.1", server.port, status=status, render=bytes, stalled_after_s=LIMIT_S)
    with pytest.raises(SettingsError, match=rf"health\.port = {server.port} is taken .* set another, or 0"):
        second.start()
    second.stop()


def test_an_address_of_another_machine_is_an_error_that_names_the_setting(status: WorkerStatus) -> None:
    # TEST-NET-1, RFC 5737: an address of no one.
    server = HealthServer("192.0.2.1", 0, status=status, render=bytes, stalled_after_s=LIMIT_S)
    with pytest.raises(SettingsError, match=r"health\.host = '192\.0\.2\.1'"):
        server.start()


def test_a_stopped_server_frees_its_port_and_can_be_stopped_again(status: WorkerStatus) -> None:
    server = HealthServer("127.0.0.1", 0, status=status, render=bytes, stalled_after_s=LIMIT_S)
    server.start()
    port = server.port
    server.stop()
    server.stop()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))


def test_connections_beyond_the_bound_are_closed_at_once_and_the_rest_still_answered(
    server: HealthServer,
) -> None:
    idle = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(MOST_CONNECTIONS)]
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as refused:
            assert refused.recv(1) == b""
    finally:
        for connection in idle:
            connection.close()
    wait_for(lambda: answers(server), 20, lambda: "still full")


@pytest.mark.parametrize(
    ("of", "starts"), [(socketserver.ThreadingMixIn, "process_request"), (threading.Timer, "start")]
)
def test_a_connection_for_which_no_thread_can_be_had_takes_no_place_for_ever(
    server: HealthServer, monkeypatch: pytest.MonkeyPatch, of: type, starts: str
) -> None:
    def without_a_thread(*_: object) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as exhausted:
        exhausted.setattr(of, starts, without_a_thread)
        for _ in range(MOST_CONNECTIONS):
            with socket.create_connection(("127.0.0.1", server.port), timeout=10) as dropped:
                assert dropped.recv(1) == b""
    wait_for(lambda: answers(server), 20, lambda: "no place is free")


def answers(server: HealthServer) -> bool:
    try:
        return ask(server, "/metrics")[0] == 200
    except (http.client.HTTPException, OSError):
        return False


def test_a_client_that_dribbles_is_hung_up_on(server: HealthServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("worker.telemetry.health.MOST_SECONDS", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as slow:
        slow.sendall(b"GET /metrics HTTP/1.0\r\nX: ")
        assert slow.recv(1) == b"", "the server itself ends it"
