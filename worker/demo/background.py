"""Calls in threads of their own, whose failures reach the thread that waits for them."""

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
        The name of the thread.
    call
        Takes an event that is set when the call should end.
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
        """Whether the call still runs."""
        return self._thread.is_alive()

    def check(self) -> None:
        """Raise the error of the call, if it failed."""
        if self._failure is not None:
            raise self._failure

    def result(self) -> Result:
        """Wait for the call; return its result or raise its error."""
        self._thread.join()
        self.check()
        return self._result[0]

    def stop(self, patience_s: float) -> None:
        """Ask the call to end; return once it has, or after `patience_s`."""
        self._stopping.set()
        self._thread.join(patience_s)

    def _run(self) -> None:
        try:
            self._result.append(self._call(self._stopping))
        except Exception as error:  # noqa: BLE001 - raised again by `check`
            self._failure = error
