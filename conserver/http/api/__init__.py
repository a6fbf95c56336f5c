"""The HTTP face: jobs, vCons, uploads, lists, dead letters and events, as JSON.

app.py puts its routes together; the wing web serves them, with the dashboard beside them. It keeps
no state: what it knows is in Redis and the storages, so any number of replicas may run. What an
operator may ask and do is in operations/; here it only gets a route, a role and a shape. Begin with
app.py.
"""
