"""Compares every way to handle imbalance with the worker, on the user's own data and without leakage."""
