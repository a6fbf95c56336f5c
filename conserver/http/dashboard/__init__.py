"""The dashboard: HTML pages under /ui/ for operators. operations/ reads and changes the state.

The server renders the HTML. Each page works without JavaScript and under any path prefix, and
escapes all text that producers wrote. htmx only refreshes pages that stay open.

    place.py         mounts the dashboard on the API's application; imports it at the first visit
    app.py           puts the pages together: static files, headers, errors
    pages.py         how a page is declared, and its argument: a Visit
    sessions.py      login: exchanges a token for a cookie
    csrf.py          the CSRF secret in every form
    live.py          refreshes open pages; one poller serves all tabs with the same content
    snapshots.py     caches what many pages read, so that Redis is asked once
    templating.py    Jinja2, with numbers and times as people read them
    item.py, call.py, media.py, timeline.py   one item: its story, its vCon, its recordings
    overview.py, lists.py, dead_letters.py, jobs.py, operations.py, schedules.py   a page each
    submit.py, search.py, workers.py          a page each
    waiting.py       the forms that retry or remove the waiting items of a list
    configuration.py, picture.py              the configuration, and the drawing of its chains
    pasts.py         charts of the history of lists and hosts
    faults.py        turns an error into a sentence for the reader of a page

How to add a page:

1. A module here with `pages = Pages()`, added to MODULES in app.py (their order is that of the
   navigation).
2. A function for each address. It runs in a thread, so it may block:

       @pages.live("/workers", "workers.html", nav="Workers")
       def workers(visit: Visit) -> Values:
           return {"hosts": hosts.read(client)}          # names for the template

       @pages.get("/items/{uuid}")                       # not live: returns a Response
       def item(visit: Visit) -> Response:
           return visit.render("item.html", uuid=visit.name("uuid"))

       @pages.post("/workers/recycle", role="operate")   # a form's target; CSRF is checked
       def recycle(visit: Visit) -> Response:
           return visit.to("workers", said="Worker 2 finishes what it has.")

   `visit` has what a page needs: `client()` (Redis, blocking), `context` (the API's: config,
   storages, uploads, operations), `token` (the caller's), `query`, `form`, `name()`, `render()`,
   `to()`, `confirm()`. Call `visit.token.may_use(list)` before showing anything of a list.
3. A template that extends base.html and fills the block `content`. A live page also fills the block
   `live`: the server sends that part again whenever it changes. Write addresses as
   {{ to("lists/" ~ quoted(name)) }}: they are relative to the page, so the server need not know the
   path prefix.
4. Buttons are forms. In the block `live` use macros.button(...): the button submits the one form
   outside the block, which holds the CSRF secret, so the block is the same HTML for every visitor.
   Elsewhere put {{ csrf() }} into the form. Before an action that cannot be undone, call
   visit.confirm().
5. Nothing inline: no <script>, no style="", no on...="" (the CSP forbids them). Styles are in
   static/app.css. Scripts are in static/app.js, or in a file that the page's block `scripts` loads.

Tests are in tests/dashboard: over HTTP, with every role, and with hostile texts.
"""
