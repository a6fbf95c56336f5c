"""What an operator decides: the environment (settings.py) and config.yml (model.py).

model.load reads the file (file.py), checks it (data.py, validation.py) and returns a frozen Config.
Every fault is reported with its path, all at once.
"""
