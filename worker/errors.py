"""The errors of the worker, named by what to do about them, each with the exit code it ends the process with."""

from __future__ import annotations

from typing import ClassVar


class WorkerError(Exception):
    """The root: whatever ends the process on purpose."""

    exit_code: ClassVar[int] = 1


class SettingsError(WorkerError):
    """A setting is missing, malformed or contradicts another; names the setting, its value and the fix."""

    exit_code = 2


class UnreachableError(WorkerError):
    """Kafka is not there, does not let us in, or has no such topic."""

    exit_code = 3


class IncompatibleError(WorkerError):
    """What the topics hold was written under settings that these contradict."""

    exit_code = 4


class FencedError(WorkerError):
    """Another process uses the same transactional id, or the group has given our partitions away."""

    exit_code = 5


class IndefiniteError(WorkerError):
    """Nobody can tell if the open transaction was committed; only a restart can."""

    exit_code = 6


class CorruptError(WorkerError):
    """A record that a worker wrote does not decode, or two workers' model states differ at one offset."""

    exit_code = 7


class FuseError(WorkerError):
    """So many bad records that something upstream must have changed."""

    exit_code = 8


class BrokerError(WorkerError):
    """The embedded broker cannot be had; the message says what to install, or how to use another broker."""

    exit_code = 9
