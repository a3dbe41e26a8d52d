"""The errors of the worker, named after what to do about them, each with the exit code of the process."""

from __future__ import annotations

from typing import ClassVar


class WorkerError(Exception):
    """The root of all errors that end the process on purpose."""

    exit_code: ClassVar[int] = 1


class SettingsError(WorkerError):
    """A setting is missing, malformed or contradicts another; the message names it, its value and the fix."""

    exit_code = 2


class UnreachableError(WorkerError):
    """Kafka does not answer, refuses access, or has no such topic."""

    exit_code = 3


class IncompatibleError(WorkerError):
    """The content of the topics was written under other settings, which the present ones contradict."""

    exit_code = 4


class FencedError(WorkerError):
    """Another process uses the same transactional id, or the group has given our partitions to another worker."""

    exit_code = 5


class IndefiniteError(WorkerError):
    """It is unknown whether the open transaction was committed; only a restart finds out."""

    exit_code = 6


class CorruptError(WorkerError):
    """A record that a worker wrote does not decode, or this worker's model state contradicts its own digest."""

    exit_code = 7


class FuseError(WorkerError):
    """The input has so many bad records that something upstream must have changed."""

    exit_code = 8


class BrokerError(WorkerError):
    """The embedded broker cannot run; the message names what to install, or how to use another broker."""

    exit_code = 9
