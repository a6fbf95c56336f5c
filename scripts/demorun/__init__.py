"""The demo: the true daemon with what this checkout has, on a few recordings, shown to a newcomer.

    __main__.py  the order of things, and the arguments
    stage.py     the folder, the configuration, the Redis and the daemon: up, and down again
    english.py   the model for recordings of the visitor's own
    journey.py   recordings onto the list; waiting until each is stored or dead; what came of it
    show.py      everything that is printed

Nothing here is a shortcut: recordings go in by `conserver submit`, come out of the storages, and
the daemon is `conserver run`.
"""

from __future__ import annotations
