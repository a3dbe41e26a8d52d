"""Alerts and dead letters as text for people. All text that others wrote is escaped and redacted."""
