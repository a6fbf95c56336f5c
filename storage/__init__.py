"""Stores finished vCons: a module per kind of storage, each with the interface of storage.contract.

    contract                what a storage is: options, documents, outcomes
    network                 proxies and certificates of the environment
    http, exchange          HTTP for the storages that speak it
    pool                    threads for the storages without a bulk write
    reading, fields         what a vCon says
    postgres, s3, ...       the storages; what is called s3_http is a part of s3

The package imports nothing of conserver.
"""
