"""The dashboard: pages for people under /ui/, over what operations know and can do.

Pages are HTML that the server renders: each works without JavaScript, under any prefix, and shows
what producers wrote as text, never as markup. htmx only keeps them current.

    place.py         where the API's application has it; the rest is imported at the first visit
    app.py           puts the pages together: static files, headers, errors
    pages.py         how a page is declared, and what it gets: a Visit
    sessions.py      login: a token becomes a cookie
    csrf.py          the secret in every form
    live.py          keeps open pages current; one poller for all that show the same
    snapshots.py     what many pages read is read once
    templating.py    Jinja2, with numbers and times as people read them
    item.py, call.py, media.py, timeline.py   one item: its story, what it holds, its recordings
    overview.py, lists.py, dead_letters.py, jobs.py, operations.py, schedules.py   a page each
    submit.py, search.py
    configuration.py, picture.py
    pasts.py         how it was before, as pictures
    faults.py        what went wrong, in a sentence for the reader of a page

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
   storages, uploads, operations), `token` (who asks; `may_use(list)` of it must be asked for
   everything that belongs to a list), `query`, `form`, `name()`, `render()`, `to()`, `confirm()`.
3. A template that extends base.html and fills `content`; in a live page also `live`, the part that
   is sent again whenever it changes. Write addresses as {{ to("lists/" ~ quoted(name)) }}: they
   are relative to where the page is, so that no prefix has to be known.
4. Buttons are forms. In a live part use macros.button(...): it belongs to the one form outside that
   holds the secret, so that the live part is the same for everybody. Elsewhere a form contains
   {{ csrf() }}. What cannot be undone goes through visit.confirm() first.
5. Nothing inline: no <script>, no style="", no on...="" (the CSP forbids them). Styles are in
   static/app.css, scripts in static/app.js or a file of the page's own in the block `scripts`.

Tests are in tests/dashboard: over HTTP, with every role, and with hostile texts.
"""
