"""All streams of the table: adding one is an entry of its module's `STREAMS`."""

from __future__ import annotations

from typing import Final

from tests.tools.quality import delayed, public, shapes, simulated
from tests.tools.quality.streams import Stream, Window

SMOKE: Final = Stream(
    name="smoke",
    about="a small simulation that shows only that the harness works",
    load=lambda seed: simulated.simulated(120, 0.03, seed, days=45, change_day=35),
    tune_days=(25, 25),
    windows=(Window(25, 45),),
    settings={"model": {"min_frauds": 30, "forest_min_rows": 400}},
)

STREAMS: Final = (*public.STREAMS, *simulated.STREAMS, *delayed.STREAMS, *shapes.STREAMS)


def chosen(parts: list[str]) -> list[Stream]:
    """Return the streams whose names contain any of the parts, all without parts."""
    return [it for it in STREAMS if not parts or any(part.lower() in it.name.lower() for part in parts)]


def by_name(name: str) -> Stream:
    """Return the stream of that very name."""
    return next(it for it in (*STREAMS, SMOKE) if it.name == name)
