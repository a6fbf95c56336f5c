"""What people type and see in a terminal.

app.py declares the commands with Typer; each command has a module of its own, which is imported
when
the command runs, so that none pays for what another one needs.
"""
