"""`python -m worker`: the command `fraud-worker`, where its script is not on the path."""

from __future__ import annotations

from worker.cli import command

if __name__ == "__main__":
    command()
