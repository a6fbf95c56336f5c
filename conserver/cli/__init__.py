"""The commands of `conserver`.

Each command, or group of commands such as `dlq`, has a module of its name: cli/<name>.py has `app`,
in which it declares its arguments and help with Typer. Its function calls functions of
conserver.operations, prints their results and returns the exit code. app.py has the table of all
commands, and imports a module when its command runs, so that no command imports the libraries of
another one.

Modules that several commands use: arguments.py (common options), environment.py (settings,
configuration, the Redis client), output.py (text or JSON, exit codes of errors), tables.py,
watching.py (--watch), waiting.py (`retry` and `empty`). daemon.py and probe.py do the work of `run`
and `health`: `__main__` calls them without Typer.
"""
