"""Messages as they are on the topics: bytes to columns, columns to bytes, and the schemas for others."""
