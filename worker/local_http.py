"""Asks an HTTP server by its address, past whatever proxy the environment names: those are for other machines."""

from __future__ import annotations

from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from typing import Final

_MOST_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server said.

    Attributes
    ----------
    status
        Of HTTP.
    server
        What it calls itself; empty where it does not say.
    text
        Its body, 16 MiB at most.
    """

    status: int
    server: str
    text: str


def ask(host: str, port: int, path: str, timeout_s: float) -> Answer | None:
    """Return what is served there, whatever its status; None where nobody listens or speaks HTTP."""
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
