"""The HTTP API: jobs, vCons, uploads, lists, dead letters and events, as JSON.

app.py collects the routes; http/server.py serves them together with the dashboard. The API process
keeps no jobs and no documents: they are in Redis and the storages, so any number of replicas may
run. What an operator can query or change is implemented in operations/; a route here adds only its
path, the role that a token needs, and the JSON shape. Begin with app.py.
"""
