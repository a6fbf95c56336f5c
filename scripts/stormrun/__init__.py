"""Storms: very much of something at once.

ground.py    the Redis and the daemon of one storm, and what is measured of them all the while
storms.py    the storms: how each is brewed, and what has to be true in the end; their link and
             their storage, fair or foul, are in tests/modules/weather.py
largest.py   no storm: the largest call of each script, and how long Redis is busy with it
"""
