"""kafka-python's admin client, changed to give up in time and to leave nothing behind."""

from __future__ import annotations

import threading
from typing import Any, Final

from kafka import KafkaAdminClient

_GRACE_S: Final = 0.5


class AdminClient(KafkaAdminClient):  # type: ignore[misc]
    """An admin client that closes what it has opened if no broker lets it in.

    kafka-python 3.0.12 leaves its thread and sockets behind then, and waits without a time-out for a peer that stays
    silent in a TLS handshake.

    Parameters
    ----------
    config
        Keyword arguments of `KafkaAdminClient`.
    """

    def __init__(self, **config: Any) -> None:
        self._closed = True  # nothing is open yet
        limit_ms = config.get("bootstrap_timeout_ms", self.DEFAULT_CONFIG["bootstrap_timeout_ms"])
        overdue = threading.Timer(limit_ms / 1000 + _GRACE_S, self._give_up)
        overdue.daemon = True
        overdue.start()
        try:
            super().__init__(**config)
        except BaseException:
            self._closed = False  # the parent sets this last, when its thread runs and its sockets are open
            self.close()
            raise
        finally:
            overdue.cancel()
            overdue.join()

    def _give_up(self) -> None:
        # Closing the connections ends the handshake that has no time-out of its own.
        self._net.call_soon_threadsafe(self._manager.close)
