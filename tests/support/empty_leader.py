"""A leader that does not know its group's topics, to be killed: `python -m tests.support.empty_leader CONFIG`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.structs import MemberState

from worker.kafka_io.client import consumer_config
from worker.kafka_io.consumer import ColumnarConsumer
from worker.settings.loading import load_settings


class NoMetadata:
    """The cluster as a new member sees it: without topics."""

    def partitions_for_topic(self, topic: str) -> None:
        del topic


class NothingForAnyone(RangePartitionAssignor):  # type: ignore[misc]
    """Assigns as a leader does that does not know the topics yet."""

    @classmethod
    def assign(cls, cluster: Any, members: list[Any]) -> Any:
        del cluster
        return super().assign(NoMetadata(), members)


def main(config: str) -> None:
    """Join the group with an empty assignment, say so on standard output, and stay until killed."""
    settings = load_settings(Path(config))
    own = {"partition_assignment_strategy": [NothingForAnyone]}
    # Not the bare client: it forgets a join that outlasts a poll, as on a slow machine.
    member = ColumnarConsumer(consumer_config(settings, group=True) | own)
    member.subscribe([settings.topics.transactions, settings.topics.labels])
    joined = False
    while True:
        member.poll(100)
        if not joined and member.group_metadata().state is MemberState.STABLE:
            joined = True
            print("joined with", sorted(member.assignment()), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
