"""The worker over a real Kafka: `app.py` constructs it and runs it."""
