"""`fraud-worker doctor`: looks at everything a worker needs and says what to do about what is amiss.

It only looks: it joins no group, uses no transactional id, and writes no record.
"""
