"""The process that starts, watches, replaces and ends all others.

It talks to no server, runs no thread and loads no model. Begin with supervisor.py (the main loop),
then slots.py (one place for a child, and who is blamed for its death) and watchdog.py (stalls and
time limits). docs/processes.md tells the whole story.
"""
