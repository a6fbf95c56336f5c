"""Stores finished vCons: a module per kind of storage, each with the interface of storage.contract.

    contract                what a storage is: options, documents, outcomes
    network                 proxies and certificates of the environment
    http, exchange          HTTP for the storages that speak it
    pool                    threads for the storages without a bulk write
    reading, fields         read the contents of a vCon (transcripts, tags, parties, dates)
    postgres, s3, ...       the storages; s3_http is a part of s3, postgres_rows one of postgres

The package imports nothing from conserver.
"""
