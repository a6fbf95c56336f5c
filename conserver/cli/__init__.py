"""What people type and see in a terminal.

app.py, operating.py and groups.py declare the commands with Typer. Each command has a module of its
own, named as it is, which calls operations and prints what they return. It is imported when the
command runs, so that no command pays for what another one needs.

What they share: output.py (text or JSON), tables.py, watching.py (--watch), arguments.py (options
that several have), environment.py (settings, configuration and Redis of the person who types).
"""
