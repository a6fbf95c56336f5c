"""Conserver takes conversations from Redis through chains of links into storages, losing none."""

__version__ = "0.1.0"
