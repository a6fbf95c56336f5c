"""What every process of Conserver is born with.

boot.py is all that a child gets, live.py its first and last moments, shared_status.py the shared
memory in which it shows what it does, messages.py how it talks with the supervisor, wakeup.py how a
worker talks with the coordinator. Begin with boot.py.
"""
