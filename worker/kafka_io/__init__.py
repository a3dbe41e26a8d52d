"""Everything that is done with kafka-python: connecting, reading, committing, administering topics."""
