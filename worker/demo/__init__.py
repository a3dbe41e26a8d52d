"""`fraud-worker demo`: a real Kafka, a real worker, simulated traffic with late labels, and the results."""
