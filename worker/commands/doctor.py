"""`doctor`: everything a worker needs, looked at."""

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
Looks at settings, brokers, topics, the newest records, the group and this
machine. It only looks: it joins no group, uses no transactional id, writes no
record, and may be run beside a worker. The code is 0 unless a check failed;
then it is the smallest of what failed, for that is to be mended first: a
setting (2), reaching Kafka (3), what the topics are (4), their records (8)."""
_STATUS: Final = 13
_NAME: Final = 17
_LEAST: Final = 40
_WIDTH: Final = 120
_STYLES: Final = {"ok": "green", "warning": "yellow", "failed": "bold red", "not checked": "dim"}


def add_to(verbs: Verbs) -> None:
    """Declare the verb."""
    parser = add_verb(
        verbs, "doctor", "look at everything a worker needs, and say what to do", examine, _MORE
    )
    parser.add_argument("--json", action="store_true", help="print the findings as one JSON list")


def examine(args: argparse.Namespace) -> int:
    """Make every check and tell what it found."""
    from worker.doctor.examination import examine as findings_of
    from worker.doctor.finding import Verdict, as_json, exit_code, together

    log_for_a_person()
    logging.getLogger("kafka").setLevel(logging.ERROR)  # what it warns of, the findings say
    findings = []
    for finding in findings_of(args.config):
        findings.append(finding)
        if not args.json and finding.status != Verdict.NOT_CHECKED:
            _tell(finding)
    if args.json:
        print(json.dumps([as_json(finding) for finding in findings], indent=2))
    else:
        for finding in together(findings):
            _tell(finding)
        _sum_up(findings)
    return exit_code(findings)


def _tell(finding: Finding) -> None:
    """Print one finding, its text folded beside its name."""
    from rich.text import Text

    console = output(_WIDTH)
    status = finding.status.value
    room = max(_LEAST, console.width - _STATUS - _NAME)
    indent = f"\n{' ' * (_STATUS + _NAME)}"
    text = Text.assemble(
        (f"{status:<{_STATUS}}", _STYLES[status]),
        f"{finding.check:<{_NAME}}",
        indent.join(_folded(finding.found, room)),
        (indent + indent.join(_folded(f"-> {finding.fix}", room)) if finding.fix else "", "bold"),
    )
    console.print(text, soft_wrap=True)


def _folded(text: str, room: int) -> list[str]:
    from worker.view.foreign_text import printable

    lines = [printable(line.strip()) for line in text.splitlines()]
    return [part for line in lines for part in wrap(line, room, break_on_hyphens=False)]


def _sum_up(findings: list[Finding]) -> None:
    counts = {status: sum(it.status.value == status for it in findings) for status in _STYLES}
    plural = "s" if counts["warning"] != 1 else ""
    told = (f"{count} {status}{plural if status == 'warning' else ''}" for status, count in counts.items())
    print(f"\n{', '.join(told)}")
