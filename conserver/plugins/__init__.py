"""Imports links and storages by the names in the configuration, and validates their options.

reading       reads a configuration with the links and storages that it names; begin here
loader        imports links and storages and validates their options: `load`
module_names  resolves names of modules, and suggests one for a mistyped name
faults        makes a Problem of an import that failed or an exception of a plugin
queries       finds schedules with a query that their storage cannot run
returns       finds links whose `run` lacks a return
compat/       adapts modules written for vcon-server, which run unchanged
"""
