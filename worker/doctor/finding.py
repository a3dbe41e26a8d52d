"""What a check has found, and the exit code that follows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum

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
    status
        How the check went.
    found
        What it found.
    fix
        What to do. Empty where there is nothing to do, and where `found` is the message of an error, which says it.
    error
        What a worker would end with; of failed checks alone.
    check
        Name of the check; `examination.examine` fills it in.
    """

    status: Verdict
    found: str
    fix: str = ""
    error: type[WorkerError] | None = None
    check: str = ""


def ok(found: str) -> Finding:
    """Return the finding that nothing is wrong."""
    return Finding(Verdict.OK, found)


def warning(found: str, fix: str) -> Finding:
    """Return the finding that a worker would run, but a person should look at something."""
    return Finding(Verdict.WARNING, found, fix)


def failed(found: str, fix: str, error: type[WorkerError]) -> Finding:
    """Return the finding that a worker would not start, would end or would do harm."""
    return Finding(Verdict.FAILED, found, fix, error)


def not_checked(why: str) -> Finding:
    """Return the finding that the check could not be made."""
    return Finding(Verdict.NOT_CHECKED, why)


def refused(error: WorkerError) -> Finding:
    """Return the finding that a worker would end with this error, whose message says what to do."""
    return Finding(Verdict.FAILED, str(error), "", type(error))


def as_json(finding: Finding) -> dict[str, str]:
    """Return a finding for programs."""
    return {
        "check": finding.check,
        "status": finding.status.value,
        "found": finding.found,
        "fix": finding.fix,
    }


def together(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Merge the checks that were not made for the same reason into one finding that names them."""
    reasons: dict[str, list[str]] = {}
    for finding in findings:
        if finding.status is Verdict.NOT_CHECKED:
            reasons.setdefault(finding.found, []).append(finding.check)
    for why, checks in reasons.items():
        yield not_checked(f"{why}: {', '.join(checks)}")


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if no check failed, else the smallest exit code of those that did: the first cause to fix.

    A wrong setting (2) may be why Kafka is not reached (3), that why topics look wrong (4), and so on.
    """
    codes = [finding.error.exit_code for finding in findings if finding.error is not None]
    return min(codes, default=0)
