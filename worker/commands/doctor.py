"""`doctor`: checks of everything a worker needs."""

# ruff: noqa: PLC0415

from __future__ import annotations

import argparse
import json
import logging
from textwrap import wrap
from typing import TYPE_CHECKING, Final

from worker.commands.parsing import Verbs, add_verb
from worker.commands.terminal import log_for_a_person, output

if TYPE_CHECKING:
    from worker.doctor.finding import Finding

_MORE: Final = """\
Checks settings, brokers, topics, the newest records, the group and this machine.
It only reads: it joins no group, uses no transactional id and writes no record,
so it may run beside a worker. The exit code is 0 unless a check failed; then it
is the smallest code of those that failed, the first cause to fix: a setting, or
one that the records contradict (2), reaching Kafka or a topic (3), topics or keys
that do not fit (4), a record of the model log (7), the records of the input (8)."""
_STATUS_COLUMNS: Final = 13
_NAME_COLUMNS: Final = 17
_LEAST_COLUMNS: Final = 40
_WIDTH: Final = 120
_STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red", "not checked": "dim"}


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(verbs, "doctor", "check everything a worker needs, and say what to fix", examine, _MORE)
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON list")


def examine(args: argparse.Namespace) -> int:
    """Make every check and print what it found."""
    from worker.doctor.examination import examine as findings_of
    from worker.doctor.finding import Verdict, as_json, exit_code, together

    log_for_a_person()
    logging.getLogger("kafka").setLevel(logging.ERROR)  # the findings say what it would warn of
    findings = []
    for finding in findings_of(args.config):
        findings.append(finding)
        if not args.json and finding.status != Verdict.NOT_CHECKED:
            _print_finding(finding)
    if args.json:
        print(json.dumps([as_json(finding) for finding in findings], indent=2))
    else:
        for finding in together(findings):
            _print_finding(finding)
        _print_counts(findings)
    return exit_code(findings)


def _print_finding(finding: Finding) -> None:
    """Print one finding, its text wrapped beside its name."""
    from rich.text import Text

    console = output(_WIDTH)
    status = finding.status.value
    room = max(_LEAST_COLUMNS, console.width - _STATUS_COLUMNS - _NAME_COLUMNS)
    indent = f"\n{' ' * (_STATUS_COLUMNS + _NAME_COLUMNS)}"
    text = Text.assemble(
        (f"{status:<{_STATUS_COLUMNS}}", _STYLES[status]),
        f"{finding.check:<{_NAME_COLUMNS}}",
        indent.join(_wrapped(finding.found, room)),
        (indent + indent.join(_wrapped(f"-> {finding.fix}", room)) if finding.fix else "", "bold"),
    )
    console.print(text, soft_wrap=True)


def _wrapped(text: str, room: int) -> list[str]:
    from worker.redaction import printable

    lines = [printable(line.strip()) for line in text.splitlines()]
    return [part for line in lines for part in wrap(line, room, break_on_hyphens=False)]


def _print_counts(findings: list[Finding]) -> None:
    counts = {status: sum(it.status.value == status for it in findings) for status in _STYLES}
    plural = "s" if counts["warning"] != 1 else ""
    texts = (f"{count} {status}{plural if status == 'warning' else ''}" for status, count in counts.items())
    print(f"\n{', '.join(texts)}")
