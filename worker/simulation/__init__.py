"""Made-up card traffic with known fraud, for trying things out, for the tests and the benchmarks."""

from worker.simulation.traffic import FIELDS, FraudKind, Traffic, simulate, simulate_with_kinds

__all__ = ["FIELDS", "FraudKind", "Traffic", "simulate", "simulate_with_kinds"]
