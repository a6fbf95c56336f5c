"""Finds links and storages by the names in the configuration, and checks their options.

loader.py does it for modules written for Conserver; compat/ lets modules written for vcon-server
run
unchanged. Begin with loader.load.
"""
