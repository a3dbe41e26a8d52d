"""Simulated card traffic with known frauds, for trials of a worker, the demo, the tests and the benchmarks."""

from worker.simulation.fraud_kinds import FraudKind
from worker.simulation.simulator import FIELDS, Simulation, simulate
from worker.simulation.traffic import Traffic

__all__ = ["FIELDS", "FraudKind", "Simulation", "Traffic", "simulate"]
