"""Storms: very much of something at once.

ground.py    the Redis and the daemon of one storm, and what is measured of them all the while
storms.py    the storms: how each is brewed, what has to be true in the end (tests/modules/weather.py is
             their link and their storage: fair or foul)
"""
