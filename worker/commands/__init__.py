"""The verbs of `fraud-worker`: one module for each, which declares it in `add_to` and does what it says.

What several verbs share is in `parsing`, `terminal`, `dataset_file` and `sending`. A verb imports what it needs when it
runs, so that `--help` and completion are fast.
"""
