"""The process that serves HTTP: the API and the dashboard as one application, on one port.

    server.py     puts the API and the dashboard together, and runs uvicorn
    protocol.py   limits the size of a request's head, and how long a client may take to send
    child.py      runs the server as a child of the supervisor
    alone.py      runs the server without a supervisor: `conserver api`
    api/          routes that answer in JSON
    dashboard/    HTML pages under /ui/

dashboard/ imports the API's context from api/. api/ imports nothing from dashboard/, and none of
the modules above.
"""
