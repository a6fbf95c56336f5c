"""Log output (log.py), and the removal of secrets from it (redact.py).

This wing imports no other one, so that all of them can log.
"""
