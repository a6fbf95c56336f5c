"""Imports links and storages by the names in the configuration, and validates their options.

loader        loads modules written for Conserver: `load`
module_names  which module a name stands for, and which one a mistyped name may mean
faults        why a plugin cannot be used
reading       reads a configuration with the links and storages that it names; begin here
queries       finds schedules that ask a storage which cannot be asked
returns       finds links whose `run` lacks a return
compat/       adapts modules written for vcon-server, which run unchanged
"""
