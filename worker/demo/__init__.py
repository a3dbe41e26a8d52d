"""`fraud-worker demo`: a real Kafka, a real worker, made-up traffic whose labels come late, and what came of it."""
