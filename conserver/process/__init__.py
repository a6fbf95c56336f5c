"""What every child process (worker or coordinator) is started with.

boot.py            Boot: everything that a child gets from the supervisor. Begin here.
child_main.py      the first and last steps of a child process
messages.py        the messages between the supervisor and a child
shared_status.py   shared memory in which a child shows that it is alive and what it works on
imports.py         the imports of a process that starts, for less
wakeup.py          the messages between a worker and the coordinator
signals.py         signal handlers that only record
packets.py         the messages between a worker and a transcriber or page reader
listening.py       sockets that listen, made before anything runs
service_manager.py tells systemd how the daemon is
descriptors.py     which file descriptors a forked child keeps
backoff.py         how long to wait before another attempt
failpoints.py      named steps at which a test kills or stops the process
"""
