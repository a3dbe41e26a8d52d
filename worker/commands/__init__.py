"""The verbs of `fraud-worker`: each module declares its own in `add_to`, and does what they say.

What a verb needs is imported when it runs, so that `--help` and completion wait for nothing.
"""
