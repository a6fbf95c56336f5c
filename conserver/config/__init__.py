"""The configuration: environment variables (settings/) and config.yml (model.py).

`model.load` reads the file (file.py), checks it (data.py, validation.py) and returns a frozen
Config. It reports all problems together, each with its path in the file.
"""
