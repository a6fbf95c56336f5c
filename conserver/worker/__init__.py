"""The process that claims items, runs their links, stores them and settles them.

Begin with loop.py, the main thread: it owns the connection to Redis. Then follow one item:
intake.py
(claimed), documents.py (read), pool.py and chain.py (links), outcomes.py (what comes next),
writers.py (storages), outbox.py (settled in Redis).
"""
