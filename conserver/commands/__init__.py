"""The commands, one file per subject. cli.py says which there are; here is what they do.

Each takes plain values and an Output, and returns the exit code. Results go to standard output, as
tables for people or as one JSON value (--json); complaints go to standard error. Everything heavy
is imported where it is needed, so that `conserver run` and `conserver health` start fast.
"""
