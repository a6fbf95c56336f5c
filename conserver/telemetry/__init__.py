"""What Conserver tells about itself: log lines (log.py), without secrets (redact.py).

It imports no other wing, so that all of them can log.
"""
