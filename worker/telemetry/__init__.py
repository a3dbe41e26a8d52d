"""What a running worker shows: metrics, health endpoints, logs."""
