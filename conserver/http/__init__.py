"""The process that serves HTTP: the API and the dashboard as one application, on one port.

    server.py     composes the two, and lets uvicorn serve them
    protocol.py   bounds what a client may make it wait for, or keep
    child.py      the process as a child of the supervisor
    alone.py      the process as `conserver api`
    api/          the routes that answer in JSON
    dashboard/    the pages under /ui/

The API imports neither the pages nor this folder's modules; the pages import the API's context.
"""
