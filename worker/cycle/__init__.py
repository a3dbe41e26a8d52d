"""One commit cycle over the owned partitions, whatever its input and output are."""
