"""What a check has found, and the exit code that follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from worker.errors import WorkerError


class Verdict(StrEnum):
    """How a check went."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"
    NOT_CHECKED = "not checked"


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check.

    Attributes
    ----------
    status, found, fix
        How it went, what was found, and what to do; `fix` is empty where nothing is to be done, or where `found` is
        the message of an error, which says it too.
    error
        What a worker would end with; of failed checks alone.
    check
        Its name; whoever runs the checks fills it in.
    """

    status: Verdict
    found: str
    fix: str = ""
    error: type[WorkerError] | None = None
    check: str = ""


def ok(found: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, found)


def warning(found: str, fix: str) -> Finding:
    """A worker would run, but somebody should look at this."""
    return Finding(Verdict.WARNING, found, fix)


def failed(found: str, fix: str, error: type[WorkerError]) -> Finding:
    """A worker would not start, or would end or do harm."""
    return Finding(Verdict.FAILED, found, fix, error)


def not_checked(why: str) -> Finding:
    """It could not be looked at."""
    return Finding(Verdict.NOT_CHECKED, why)


def refused(error: WorkerError) -> Finding:
    """A worker would end with this very error, which says what to do."""
    return Finding(Verdict.FAILED, str(error), "", type(error))


_WELL: Final = 0


def together(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Yield one finding for all that were not checked for the same reason, named in its text."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.status is Verdict.NOT_CHECKED:
            reasons.setdefault(finding.found, []).append(finding.check)
    for why, checks in reasons.items():
        yield not_checked(f"{why}: {', '.join(checks)}")


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if nothing failed, else the smallest code of what did: what is to be mended first.

    A wrong setting (2) may be why Kafka is not reached (3), that why topics look wrong (4), and so on.
    """
    codes = [finding.error.exit_code for finding in findings if finding.error is not None]
    return min(codes, default=_WELL)
