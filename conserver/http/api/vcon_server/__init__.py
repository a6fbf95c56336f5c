"""vcon-server's HTTP API, for clients that know it: its routes, codes, shapes and texts.

The routes stand at `/` and under API_ROOT_PATH. They are kept as they are, so they are not part of
/openapi.json; what is new goes under /v1. docs/from-vcon-server.md has every route, and where it
differs. Begin with route.py.

    route.py         how its routes fail: {"detail": ...}; its headers
    access.py        who may: tokens, keys of partners; which lists
    documents.py     /vcon and /vcons: store, read, delete, list, search
    queues.py        ingress, egress, count, external ingress, dead letters, depths
    service.py       /version and /config
    oddities.py      what vcon-server would have refused in a document
"""
