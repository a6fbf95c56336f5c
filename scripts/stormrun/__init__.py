"""Storms: very much of something at once.

ground.py    the Redis and the daemon of one storm, and what is measured of them all the while
storms.py    the storms: how each is brewed, what has to be true in the end
weather.py   the link and the storage of a storm: fair or foul, as a file says
"""
