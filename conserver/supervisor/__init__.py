"""The supervisor: starts, watches, replaces and stops all other processes of a host.

The supervisor process connects to no server, runs no thread and loads no model.

    supervisor.py    the main loop: wait, receive, act. Begin here.
    entries.py       the entry functions of the children, and the services to run
    slots.py         one slot per child: its sockets, its state, its restart backoff
    child.py         one child process: start, death, kill
    death.py         how a child ended, and which items are blamed for it
    watchdog.py      liveness, stalls and hard time limits
    replacement.py   planned replacements: reload, and recycling by items or memory
    shutdown.py      graceful shutdown: drain, deadline, kill
    orders.py        orders to the coordinator, repeated until it acknowledges them
    helpers.py       the children that only some chains use: transcribers and page readers
    transcribers.py  children that hold a speech model, one per device
    page_readers.py  children that read pages of documents
    preload.py       the configuration in use, and the imports before a fork

docs/processes.md describes the behaviour as operators see it.
"""
