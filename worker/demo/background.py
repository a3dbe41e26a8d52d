"""Calls that run in threads of their own, and whose failures whoever looks is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")


class BackgroundCall(Generic[Result]):
    """One call in a daemon thread.

    Parameters
    ----------
    name
        Of the thread.
    call
        Given an event that is set when it should come to its end.
    """

    def __init__(self, name: str, call: Callable[[threading.Event], Result]) -> None:
        self._call = call
        self._stopping = threading.Event()
        self._result: list[Result] = []
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def is_running(self) -> bool:
        """Whether the call has not returned yet."""
        return self._thread.is_alive()

    def check(self) -> None:
        """Raise what the call raised, if it did."""
        if self._failure is not None:
            raise self._failure

    def result(self) -> Result:
        """Wait for the call; return or raise what it did."""
        self._thread.join()
        self.check()
        return self._result[0]

    def stop(self, patience_s: float) -> None:
        """Ask the call to come to its end; return when it has, or when patience has ended."""
        self._stopping.set()
        self._thread.join(patience_s)

    def _run(self) -> None:
        try:
            self._result.append(self._call(self._stopping))
        except Exception as error:  # noqa: BLE001 - raised again by `check`
            self._failure = error
