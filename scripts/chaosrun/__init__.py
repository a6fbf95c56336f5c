"""Breaking the running daemon at random, and counting afterwards that nothing was lost or doubled.

town.py      the servers, the proxies in front of them, and the hosts
work.py      the items: what is pushed, and what has to become of it
plan.py      the disturbances, drawn from a seed
mischief.py  carrying them out
places.py    what the storages hold
account.py   waiting for the end, and the account
run.py       one run from its first server to its account
__main__.py  the command line
"""

from __future__ import annotations
