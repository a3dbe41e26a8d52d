"""The quality table: the worker beside strong baselines on many streams; `make quality`, `make quality-baselines`."""
