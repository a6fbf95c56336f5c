"""The supervisor: starts, watches, replaces and stops all other processes of a host.

It talks to no server, runs no thread and loads no model.

    supervisor.py    the main loop: wait, receive, act. Begin here.
    entries.py       what the children run, and what is served beside them
    slots.py         one slot per child: its sockets, its state, its restart backoff
    child.py         one child process: start, death, kill
    death.py         how a child ended, and which items its death counts against
    watchdog.py      liveness, stalls and hard time limits
    replacement.py   planned replacements: reload, and recycling by items or memory
    shutdown.py      graceful shutdown: drain, deadline, kill
    orders.py        what the coordinator must do in Redis, repeated until acknowledged
    helpers.py       the children that only some chains use:
    transcribers.py  those that hold a model, one per device
    page_readers.py  those that open documents
    preload.py       the configuration, and what is imported before a fork

docs/processes.md describes the behaviour as operators see it.
"""
