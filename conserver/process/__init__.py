"""What the processes of a host share: a child's start, and how the processes communicate.

boot.py            Boot: everything that a child gets from the supervisor. Begin here.
child_main.py      the first and last steps of a child process
messages.py        the messages between the supervisor and a child
shared_status.py   shared memory in which a child shows that it is alive and what it works on
imports.py         faster imports for a process that starts
memory.py          the size of a process, and settings of the memory allocator
wakeup.py          the messages between a worker and the coordinator
signals.py         signal handlers that only record the signal
packets.py         the messages between a worker and a transcriber or page reader
listening.py       listening TCP sockets, made before anything else starts
service_manager.py tells systemd that the daemon is ready, alive or stopping
descriptors.py     which file descriptors a forked child keeps
backoff.py         how long to wait before another attempt
failpoints.py      named steps at which a test kills or stops the process
"""
