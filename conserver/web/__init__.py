"""The process that serves HTTP: the API and the dashboard as one application, on one port.

server.py composes the two and lets uvicorn serve them; protocol.py bounds what a client may make
it wait for, or keep. child.py is that process as a child of the supervisor, alone.py as
`conserver api`. Neither of the two faces imports this wing.
"""
