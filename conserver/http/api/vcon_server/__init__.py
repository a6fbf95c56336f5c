"""vcon-server's HTTP API for its existing clients: the same routes, codes, shapes and texts.

The routes answer at `/` and under API_ROOT_PATH. New features go under /v1, not here, and
/openapi.json omits these routes. docs/from-vcon-server.md lists every route, and how its answers
differ from vcon-server's. Begin with route.py.

    route.py         errors in vcon-server's form, {"detail": ...}, and its headers
    access.py        access: tokens, partners' keys, and the lists that each may use
    documents.py     /vcon and /vcons: store, read, delete, list, search
    queues.py        ingress, egress, count, external ingress, dead letters, depths
    service.py       /version and /config
    oddities.py      finds what vcon-server would have refused in a document
"""
