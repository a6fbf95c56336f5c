"""The commands of `conserver`.

app.py, operating.py and groups.py declare the commands with Typer. Each command has its own module
of the same name, which calls functions of conserver.operations and prints their results. The module
is imported when its command runs, so that no command imports the libraries of another one.

Modules that several commands use: output.py (text or JSON), tables.py, watching.py (--watch),
arguments.py (common options), environment.py (settings, configuration, the Redis client). `retry`
and `empty` are both in waiting.py.
"""
