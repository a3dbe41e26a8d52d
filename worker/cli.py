"""The command `fraud-worker`: which verbs it has, and how errors become exit codes."""

from __future__ import annotations

import argparse
import atexit
import logging
import os
import sys
import threading
from collections.abc import Sequence
from importlib.metadata import version
from typing import Final, NoReturn

from worker.commands import (
    alerts,
    backtest,
    compare,
    completion,
    config,
    dead_letters,
    demo,
    doctor,
    kafka,
    replay,
    run,
    schema,
    simulate,
    skip,
    topics,
)
from worker.commands.parsing import Parser, add_config, verbs_of
from worker.errors import WorkerError

INTERRUPTED: Final = 130
BROKEN_PIPE: Final = 141

EXIT_CODES: Final = {
    0: "success",
    1: "any other error",
    2: "a setting or an argument is wrong; the message names it and the fix",
    3: "Kafka does not answer, refuses the credentials, or lacks a topic",
    4: "the topics do not fit these settings, or lack records that were due; the message says which",
    5: "another process took over this worker.id, or another run of a command began: stop one of the two",
    6: "the outcome of a commit is unknown: start again, the decisions topic shows it",
    7: "a record that a worker wrote does not decode, or model states differ",
    8: "too large a share of the records is bad",
    9: "the embedded broker lacks Java or Maven, or does not start",
    INTERRUPTED: "Ctrl-C",
    BROKEN_PIPE: "the reader of the output closed it",
}

VERBS: Final = (
    demo,
    kafka,
    topics,
    doctor,
    run,
    simulate,
    alerts,
    dead_letters,
    skip,
    replay,
    backtest,
    compare,
    config,
    schema,
    completion,
)
"""The modules that declare a verb, in the order of the help."""


def command() -> NoReturn:
    """Run the command of the process's arguments, and end the process with its exit code."""
    end_process(main())


def end_process(code: int) -> NoReturn:
    """End the process, without waiting for threads that may be left behind.

    Python unloads its libraries under daemon threads that still run: one inside Arrow or LLVM aborts the process then,
    after all was done, with SIGABRT for an exit code.

    Parameters
    ----------
    code
        Of the process.
    """
    others = [thread for thread in threading.enumerate() if thread is not threading.current_thread()]
    if not others or not all(thread.daemon for thread in others):
        sys.exit(code)
    atexit._run_exitfuncs()  # noqa: SLF001 - `os._exit` runs none, and they end what was started
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    Parameters
    ----------
    arguments
        Arguments of the command line, without the program's name; None takes those of the process.
    """
    args = build_parser().parse_args(arguments)
    try:
        code: int = args.command(args)
        sys.stdout.flush()
    except WorkerError as error:
        if not _log_fatal(error, str(error), error.exit_code):
            from worker.redaction import printable  # noqa: PLC0415 - `--help` needs none of it

            print("\n".join(map(printable, f"fraud-worker: {error}".splitlines())), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more at its exit, and would print an error then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except Exception as error:
        if not _log_fatal(error, f"a bug ends the process: {type(error).__name__}: {error}", 1, trace=True):
            raise
        return 1
    return code


def _log_fatal(error: Exception, message: str, code: int, *, trace: bool = False) -> bool:
    """Log what ends the process if the log is of JSON lines, which a plain line would break; return whether it is."""
    from worker.telemetry import logs  # noqa: PLC0415 - `--help` needs none of it

    if not logs.is_json():
        return False
    fields = {"error": type(error).__name__, "exit_code": code}
    logging.getLogger("worker").critical("%s", message, extra=fields, exc_info=trace)
    return True


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line.

    In what it parses, `command` is the function that does what the verb says, and `parser` this parser.
    """
    parser = Parser(
        prog="fraud-worker",
        description="Decides for each card transaction on Kafka whether it is worth an\n"
        "investigator's time, and learns from labels that arrive weeks later.",
        epilog="\n".join(["exit codes:", *(f"{code:5}  {meaning}" for code, meaning in EXIT_CODES.items())]),
    )
    parser.add_argument("--version", action="version", version=f"fraud-worker {version('fraud-worker')}")
    parser.set_defaults(parser=parser)
    add_config(parser, default=None)
    verbs = verbs_of(parser)
    for verb in VERBS:
        verb.add_to(verbs)
    return parser
