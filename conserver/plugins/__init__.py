"""Imports links and storages by the names in the configuration, and validates their options.

loader    loads modules written for Conserver; begin with `load`
returns   finds links whose `run` lacks a return
compat/   adapts modules written for vcon-server, which run unchanged
"""
