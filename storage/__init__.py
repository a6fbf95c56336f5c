"""Where finished vCons are kept: one module per kind of storage, all behind storage.contract.

The package knows nothing of the daemon that calls it: it imports nothing of conserver.
"""
