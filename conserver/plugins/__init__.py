"""Imports links and storages by the names in the configuration, and validates their options.

loader    loads modules written for Conserver; begin with `load`
compat/   adapts modules written for vcon-server, which run unchanged
"""
