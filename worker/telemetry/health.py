"""The endpoints of a worker: /metrics, /healthz (does the poll loop move?) and /readyz (does it decide?)."""

from __future__ import annotations

import errno
import logging
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Self

import orjson

from worker.errors import SettingsError

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 16
MOST_SECONDS = 10.0
METRICS_CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(frozen=True)
class StatusSnapshot:
    """The status of a worker at one moment.

    Attributes
    ----------
    age_s
        Seconds since the poll loop last moved.
    ready
        Whether it has partitions, has restored them and hears from Kafka.
    reason
        Why it is not ready; empty when it is.
    """

    age_s: float
    ready: bool
    reason: str


class WorkerStatus:
    """The status that the poll loop reports to the endpoints; one thread writes it, others read it.

    Parameters
    ----------
    clock
        Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._beat = clock()
        self._reason = "starting"
        self._is_cut_off = False

    def beat(self) -> None:
        """Report that the poll loop moved."""
        with self._lock:
            self._beat = self._clock()

    def not_ready(self, reason: str) -> None:
        """Report what the worker waits for, such as `restoring partition 2`."""
        with self._lock:
            self._reason = reason

    def ready(self) -> None:
        """Report that the worker has its partitions and decides."""
        with self._lock:
            self._reason = ""

    def cut_off(self, *, is_cut_off: bool) -> None:
        """Report whether Kafka has ceased to answer; once it does again, what was reported before holds."""
        with self._lock:
            self._is_cut_off = is_cut_off

    def snapshot(self) -> StatusSnapshot:
        """Return the status at this moment."""
        with self._lock:
            age_s = self._clock() - self._beat
            reason = "Kafka does not answer" if self._is_cut_off else self._reason
            return StatusSnapshot(age_s, not reason, reason)


@dataclass(frozen=True)
class _Answer:
    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"


class HealthServer:
    """Serves the endpoints in a thread of its own, from `start` until `stop`; also a context manager.

    Parameters
    ----------
    host, port
        Where to listen; port 0 takes a free one.
    status
        What the poll loop reports.
    render
        Returns the body of /metrics.
    stalled_after_s
        /healthz fails once the poll loop has not moved for so long.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        status: WorkerStatus,
        render: Callable[[], bytes],
        stalled_after_s: float,
    ) -> None:
        self._host, self._port = host, port
        self._status, self._render, self._stalled_after_s = status, render, stalled_after_s
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int:
        """The port that the server listens on; before `start`, the one it was constructed with."""
        return self._port if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen.

        Raises
        ------
        SettingsError
            The address cannot be bound; the error names `health.port` or `health.host`.
        """
        try:
            self._server = _Server((self._host, self._port), self._answer)
        except (OSError, OverflowError) as error:
            raise _bind_error(self._host, self._port, error) from None
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.05,), name="health", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop listening; a second call has no effect."""
        server, thread, self._server, self._thread = self._server, self._thread, None, None
        if server is None or thread is None:
            return
        server.shutdown()
        server.server_close()
        thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()

    def _answer(self, path: str) -> _Answer:
        answers = {"/metrics": self._metrics, "/healthz": self._healthz, "/readyz": self._readyz}
        answer = answers.get(path.partition("?")[0])
        return answer() if answer else _json(HTTPStatus.NOT_FOUND, {"paths": sorted(answers)})

    def _metrics(self) -> _Answer:
        return _Answer(HTTPStatus.OK, self._render(), METRICS_CONTENT_TYPE)

    def _healthz(self) -> _Answer:
        state = self._status.snapshot()
        moves = state.age_s <= self._stalled_after_s
        body = {
            "status": "ok" if moves else "stalled",
            "last_poll_age_s": round(state.age_s, 3),
            "stalled_after_s": self._stalled_after_s,
        }
        return _json(HTTPStatus.OK if moves else HTTPStatus.SERVICE_UNAVAILABLE, body)

    def _readyz(self) -> _Answer:
        state = self._status.snapshot()
        body = {"status": "ready" if state.ready else "not ready"}
        body |= {"reason": state.reason} if state.reason else {}
        return _json(HTTPStatus.OK if state.ready else HTTPStatus.SERVICE_UNAVAILABLE, body)


def _json(status: HTTPStatus, body: dict[str, Any]) -> _Answer:
    return _Answer(status, orjson.dumps(body) + b"\n")


def _bind_error(host: str, port: int, error: Exception) -> SettingsError:
    code = error.errno if isinstance(error, OSError) else None
    if code == errno.EADDRINUSE:
        return SettingsError(f"health.port = {port} is taken on {host}: set another, or 0 for a free one")
    if code == errno.EACCES:
        return SettingsError(
            f"health.port = {port} needs privileges: set one from 1024 on, or 0 for a free one"
        )
    return SettingsError(
        f"health.host = {host!r} cannot be listened on ({error}): set an address of this machine"
    )


class _Server(ThreadingHTTPServer):
    """Answers a bounded number of connections at once, each for a bounded time: none of them may fill the memory."""

    daemon_threads = True

    def __init__(self, address: tuple[str, int], answer: Callable[[str], _Answer]) -> None:
        self.answer = answer
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer's own method looks its name up in the DNS, which may take seconds.
        TCPServer.server_bind(self)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except BaseException:
            # No thread was to be had, so none gives the place back.
            self._free.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        # The time-out of a handler is that of one read: a client that sends a byte now and then would stay for ever.
        end = threading.Timer(MOST_SECONDS, _hang_up, (request,))
        end.daemon = True
        try:
            end.start()
            super().process_request_thread(request, client_address)
        except RuntimeError:
            log.debug("health: no thread is to be had", exc_info=True)
            self.shutdown_request(request)
        finally:
            end.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        log.debug("health: a client at %s went away", client_address, exc_info=True)


def _hang_up(request: socket.socket) -> None:
    with suppress(OSError):
        request.shutdown(socket.SHUT_RDWR)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = 5.0  # a client that sends nothing does not keep its thread

    def parse_request(self) -> bool:
        if not super().parse_request():
            return False
        if self.command in {"GET", "HEAD"}:
            return True
        # The base class would answer 501 to other methods, as if the server were at fault.
        self._send(_json(HTTPStatus.METHOD_NOT_ALLOWED, {"allow": "GET, HEAD"}), {"Allow": "GET, HEAD"})
        return False

    def do_GET(self) -> None:
        try:
            answer = self.server.answer(self.path)
        except Exception:
            log.exception("health: %s failed", self.path)
            answer = _json(HTTPStatus.INTERNAL_SERVER_ERROR, {"status": "error"})
        self._send(answer, {})

    do_HEAD = do_GET  # noqa: N815

    def _send(self, answer: _Answer, headers: dict[str, str]) -> None:
        self.send_response(answer.status)
        headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body))} | headers
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def version_string(self) -> str:
        return "fraud-worker"  # without the Python version, which the base class would publish

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)
