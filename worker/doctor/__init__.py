"""`fraud-worker doctor`: checks everything a worker needs and says how to fix what is wrong.

The checks only read: they join no group, use no transactional id and write no record.
"""
