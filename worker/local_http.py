"""Asks an HTTP server by its address, without the proxy that the environment may name for other machines."""

from __future__ import annotations

from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Final

_MOST_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """A server's answer.

    Attributes
    ----------
    status
        The HTTP status.
    server
        Its `Server` header; empty if there is none.
    text
        Its body, 16 MiB at most.
    """

    status: int
    server: str
    text: str


def ask(host: str, port: int, path: str, timeout_s: float) -> Answer | None:
    """Return the answer, of any status; None if no server listens there or it does not speak HTTP."""
    connection = HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read(_MOST_BYTES)
    except (OSError, HTTPException):
        return None
    finally:
        connection.close()
    return Answer(answer.status, answer.getheader("Server", ""), body.decode(errors="replace"))
