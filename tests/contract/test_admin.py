"""An admin client that no broker lets in: kafka-python's leaves a thread behind, ours does not."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from worker.kafka_io.admin import AdminClient

pytestmark = pytest.mark.contract

ATTEMPTS = 3
LIMIT_MS = 200


@pytest.fixture
def closing() -> Iterator[int]:
    """The port of a server that closes every connection at once."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            with suppress(OSError):
                while True:
                    server.accept()[0].close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        yield server.getsockname()[1]
        server.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def mute() -> Iterator[int]:
    """The port of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def threads_left(client: type[KafkaAdminClient], port: int, protocol: str = "PLAINTEXT") -> int:
    """Return how many threads some attempts to connect have left."""
    before = threading.active_count()
    for _ in range(ATTEMPTS):
        with pytest.raises(KafkaError):
            client(
                bootstrap_servers=f"127.0.0.1:{port}",
                security_protocol=protocol,
                bootstrap_timeout_ms=LIMIT_MS,
            )
    return threading.active_count() - before


def test_kafka_pythons_leaves_a_thread_at_every_attempt(closing: int) -> None:
    made: list[KafkaAdminClient] = []

    class Kept(KafkaAdminClient):  # type: ignore[misc]
        def __init__(self, **config: Any) -> None:
            made.append(self)
            super().__init__(**config)

    assert threads_left(Kept, closing) == ATTEMPTS
    for client in made:
        client._closed = False
        client.close()


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL"])
@pytest.mark.parametrize("server", ["closing", "mute"])
def test_ours_gives_up_and_leaves_none(protocol: str, server: str, request: pytest.FixtureRequest) -> None:
    port: Any = request.getfixturevalue(server)
    assert threads_left(AdminClient, port, protocol) == 0
