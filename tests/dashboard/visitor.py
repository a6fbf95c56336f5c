"""A visitor without JavaScript: follows links, fills forms in and presses buttons, over HTTP."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from html.parser import HTMLParser
from typing import Any, Self
from urllib.parse import urljoin, urlsplit

import httpx

from tests.api.conftest import Api
from tests.clients import http_client

VOID = frozenset("area base br col hr img input link meta source track wbr path circle".split())


@dataclass
class Form:
    """A form of a page: where it is sent, and what it holds."""

    action: str
    method: str = "get"
    fields: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class Button:
    """A button, and the form that it belongs to."""

    text: str
    form: str
    action: str = ""
    name: str = ""
    value: str = ""


class Page(HTMLParser):
    """What a visitor sees of an answer."""

    def __init__(self, answer: httpx.Response) -> None:
        super().__init__()
        self.answer = answer
        self.status, self.url = answer.status_code, str(answer.url)
        self.html = answer.text
        self.links: dict[str, str] = {}
        self.forms: dict[str, Form] = {}
        self.buttons: list[Button] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self._form = ""
        self._link: str | None = None
        self._button: Button | None = None
        self._select = ""
        self.feed(self.html)
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.tags.append((tag, given))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "form":
            self._form = given.get("id") or f"form {len(self.forms)}"
            self.forms[self._form] = Form(given.get("action", ""), given.get("method", "get"))
        elif tag in ("input", "textarea") and self._form and given.get("name"):
            if given.get("type") not in ("checkbox", "radio") or "checked" in given:
                self.forms[self._form].fields.append((given["name"], given.get("value", "")))
        elif tag == "select":
            self._select = given.get("name", "")
        elif tag == "option" and self._select and "selected" in given and self._form:
            self.forms[self._form].fields.append((self._select, given.get("value", "")))
        elif tag == "a":
            self._link = given.get("href", "")
        elif tag == "button":
            owner = given.get("form", self._form)
            self._button = Button(
                given.get("aria-label", ""),
                owner,
                given.get("formaction", ""),
                given.get("name", ""),
                given.get("value", ""),
            )
            self.buttons.append(self._button)

    def handle_endtag(self, tag: str) -> None:
        if tag in self._open:
            while self._open.pop() != tag:
                continue
        if tag == "form":
            self._form = ""
        elif tag == "a":
            self._link = None
        elif tag == "button":
            self._button = None
        elif tag == "select":
            self._select = ""

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in ("script", "style"):
            return
        self.texts.append(data)
        if self._link is not None and data.strip():
            self.links.setdefault(data.strip(), self._link)
        if self._button is not None and not self._button.text:
            self._button.text = data.strip()

    def button(self, text: str) -> Button:
        """The button with that text or label."""
        found = [button for button in self.buttons if button.text == text]
        assert found, f"no button `{text}` among {[button.text for button in self.buttons]}"
        return found[0]

    def has_button(self, text: str) -> bool:
        return any(button.text == text for button in self.buttons)


class Visitor:
    """One person with one browser."""

    def __init__(self, api: Api, prefix: str = "", **headers: str) -> None:
        self.http = http_client(api.url, headers=headers, timeout=60)
        self._prefix = prefix

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def get(self, path: str = "", **query: Any) -> Page:
        """A page below /ui/."""
        url = f"{self._prefix}/ui/{path}"
        return Page(self.http.get(url, params=query or None, follow_redirects=True))

    def follow(self, page: Page, link: str) -> Page:
        """Where the link with that text leads."""
        return Page(self.http.get(urljoin(page.url, page.links[link]), follow_redirects=True))

    def press(self, page: Page, text: str, **fields: Any) -> Page:
        """Press a button, with some fields of its form filled in."""
        button = page.button(text)
        form = page.forms[button.form]
        sent: list[Any] = [(name, value) for name, value in form.fields if name not in fields]
        for name, value in fields.items():
            values = value if isinstance(value, list) else [value]
            sent += [(name, str(one)) for one in values]
        if button.name:
            sent.append((button.name, button.value))
        url = urljoin(page.url, button.action or form.action or page.url)
        if form.method == "post":
            data: dict[str, Any] = {}
            for name, value in sent:
                data.setdefault(name, []).append(value)
            return Page(self.http.post(url, data=data, follow_redirects=True))
        return Page(self.http.get(url, params=sent, follow_redirects=True))

    def login(self, role: str) -> Self:
        """Log in with the token of that role; see TOKENS."""
        page = self.press(self.get("login"), "Log in", token=f"text-{role}")
        assert not urlsplit(page.url).path.endswith("/login"), page.text
        return self


Visitors = Callable[..., Visitor]
