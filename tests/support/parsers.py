"""The verbs of the command line, for the tests that go through all of them."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from worker.commands.parsing import parsers_below


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    """Yield the parsers of the verbs that have no verbs below them."""
    below = list(parsers_below(parser))
    if not below:
        yield parser
    for each in below:
        yield from leaves(each)
