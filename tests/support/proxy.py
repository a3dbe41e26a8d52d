"""A TCP proxy between clients and a broker that loses answers and cuts connections on demand."""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self

END_TXN: Final = 26
"""Kafka's number of the request that commits or aborts."""

Loses = Callable[[int], bool]
"""Returns whether to lose the answer to a request of that number, and the connection with it."""


class KafkaProxy:
    """Listens on one port of 127.0.0.1 and forwards to another; a context manager.

    Parameters
    ----------
    port, target_port
        Where to listen, and where to forward to.
    loses
        Called with the number of every request.
    """

    def __init__(self, port: int, target_port: int, loses: Loses = lambda api_key: False) -> None:  # noqa: ARG005
        self.loses = loses
        self.lost = 0
        self.address = f"127.0.0.1:{port}"
        self._target_port = target_port
        self._open: set[socket.socket] = set()
        self._is_cut = False
        self._lock = threading.Lock()
        self._server = socket.create_server(("127.0.0.1", port))

    def cut(self) -> int:
        """Break all connections and refuse new ones until `restore`; return how many there were."""
        with self._lock:
            self._is_cut = True
            connections = set(self._open)
        for connection in connections:
            _break(connection)
        return len(connections)

    def restore(self) -> None:
        """Accept connections again."""
        with self._lock:
            self._is_cut = False

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._server.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._is_cut:
                _break(client)
                continue
            try:
                broker = socket.create_connection(("127.0.0.1", self._target_port))
            except OSError:
                _break(client)
                continue
            with self._lock:
                self._open |= {client, broker}
            doomed: set[int] = set()
            for source, sink, forward in ((client, broker, self._ask), (broker, client, self._answer)):
                threading.Thread(
                    target=self._pump, args=(source, sink, forward, doomed), name="proxy", daemon=True
                ).start()

    def _pump(
        self,
        source: socket.socket,
        sink: socket.socket,
        passes: Callable[[bytes, set[int]], bool],
        doomed: set[int],
    ) -> None:
        with suppress(OSError):
            while True:
                size = _exactly(source, 4)
                message = _exactly(source, struct.unpack(">i", size)[0])
                if not passes(message, doomed):
                    break
                sink.sendall(size + message)
        with self._lock:
            self._open -= {source, sink}
        _break(source)
        _break(sink)

    def _ask(self, message: bytes, doomed: set[int]) -> bool:
        api_key, _, correlation_id = struct.unpack_from(">hhi", message)
        if self.loses(api_key):
            doomed.add(correlation_id)
        return True

    def _answer(self, message: bytes, doomed: set[int]) -> bool:
        (correlation_id,) = struct.unpack_from(">i", message)
        if correlation_id not in doomed:
            return True
        self.lost += 1
        return False


def _exactly(source: socket.socket, count: int) -> bytes:
    data = bytearray()
    while len(data) < count:
        part = source.recv(count - len(data))
        if not part:
            raise ConnectionResetError
        data += part
    return bytes(data)


def _break(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
    connection.close()
