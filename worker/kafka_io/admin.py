"""kafka-python's admin client, which here gives up in time and leaves nothing behind."""

from __future__ import annotations

import threading
from typing import Any, Final

from kafka import KafkaAdminClient

_GRACE_S: Final = 0.5


class AdminClient(KafkaAdminClient):  # type: ignore[misc]
    """An admin client that closes what it has opened if no broker lets it in.

    kafka-python 3.0.12 leaves its thread and sockets behind then, and waits without a time-out for a peer that says
    nothing in a TLS handshake.

    Parameters
    ----------
    config
        As `KafkaAdminClient` takes it.
    """

    def __init__(self, **config: Any) -> None:
        self._closed = True  # until the parent has begun
        limit_ms = config.get("bootstrap_timeout_ms", self.DEFAULT_CONFIG["bootstrap_timeout_ms"])
        overdue = threading.Timer(limit_ms / 1000 + _GRACE_S, self._give_up)
        overdue.daemon = True
        overdue.start()
        try:
            super().__init__(**config)
        except BaseException:
            self._closed = False
            self.close()
            raise
        finally:
            overdue.cancel()
            overdue.join()

    def _give_up(self) -> None:
        self._net.call_soon_threadsafe(self._manager.close)
