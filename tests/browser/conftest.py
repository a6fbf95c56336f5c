"""A real Chromium (Debian's package) that looks at the dashboard of `api`.

`browse("read")` is a window of somebody who has logged in with that role. What a page complains of
(an error in the console, a script that fails, something that its content security policy refuses)
fails the test that has opened it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, expect, sync_playwright
from playwright.sync_api import Page as Window
from servers import free_port

from tests.api.conftest import Api, api, queue, serve, worker
from tests.conftest import absent
from tests.dashboard.calls import call
from tests.helpers import eventually
from tests.queues import Queue

__all__ = ["api", "queue", "serve", "worker"]

WAIT_MS = 30_000
_EXPECT_MS = 5_000
"""What Playwright's `expect` waits by default: too short for a busy machine."""
_VIOLATIONS = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP: ${event.violatedDirective} refuses ${event.blockedURI}`);
});
"""


@dataclass
class Desk:
    """Opens windows, and keeps what their pages complain of."""

    browser: Browser
    url: str
    complaints: list[str] = field(default_factory=list)
    expected: list[str] = field(default_factory=list)
    contexts: list[BrowserContext] = field(default_factory=list)

    def __call__(self, role: str = "", *, url: str = "", **options: Any) -> Window:
        """A window on the page behind the login; of nobody in particular without a role.

        options: of Playwright's new_context, such as viewport, color_scheme, java_script_enabled.
        """
        context = self.browser.new_context(base_url=f"{url or self.url}/ui/", **options)
        self.contexts.append(context)
        context.set_default_timeout(WAIT_MS)
        context.add_init_script(_VIOLATIONS)
        window = context.new_page()
        window.on("console", self._heard)
        window.on("pageerror", lambda error: self.complaints.append(str(error)))
        if role:
            window.goto("login")
            window.fill("#token", f"text-{role}")
            window.click("main button.primary")
            window.wait_for_url(lambda where: "login" not in where)
        return window

    def _heard(self, message: Any) -> None:
        if message.type == "error":
            self.complaints.append(f"{message.text} ({message.location.get('url', '')})")


def slowed(audio: Locator) -> None:
    """Have it play as slowly as browsers can: a word stays marked until somebody has looked."""
    audio.evaluate("audio => { audio.playbackRate = 0.0625; }")


def until(window: Window, condition: str) -> None:
    """Wait until an expression is true in a page. Playwright's wait_for_function asks once, and
    then by `eval` in the page, which our content security policy refuses.
    """
    eventually(lambda: window.evaluate(condition), message=condition)


@pytest.fixture(scope="package")
def chromium() -> Iterator[Browser]:
    """One browser for the tests of this folder. Playwright occupies this thread's event loop until
    it is stopped, and the tests of other folders need that.
    """
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        absent("no chromium: `scripts/services install browser` brings it")
    arguments = ["--mute-audio", "--autoplay-policy=no-user-gesture-required"]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=arguments)
        expect.set_options(timeout=WAIT_MS)
        yield browser
        expect.set_options(timeout=_EXPECT_MS)
        browser.close()


@pytest.fixture
def desk(chromium: Browser, api: Api) -> Iterator[Desk]:
    """Windows on the dashboard of `api`."""
    made = Desk(chromium, api.url)
    yield made
    for context in made.contexts:
        context.close()
    left = [
        one
        for one in made.complaints
        if not any(expected in one for expected in made.expected)
        # A machine that is busy: a stream that could not begin in time is asked for again.
        and not ("status of 503" in one and "live=1" in one)
    ]
    assert not left


@pytest.fixture
def uuid(queue: Queue) -> str:
    """A call with its recording and its transcript, in Redis."""
    document = call()
    queue.client.set(f"vcon:{document['uuid']}", orjson.dumps(document))
    return str(document["uuid"])


@pytest.fixture
def nginx(tmp_path: Path) -> Iterator[Callable[[str, bool], str]]:
    """`nginx(url, strip)`: the address of a proxy that serves it below /ops/conserver/."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        absent("no nginx: `scripts/services install browser` brings it")
    with ExitStack() as stack:

        def start(url: str, strip: bool) -> str:
            port = free_port()
            folder = tmp_path / f"nginx-{port}"
            folder.mkdir()
            config = folder / "nginx.conf"
            config.write_text(_NGINX.format(port=port, url=url + "/" * strip, folder=folder))
            command = [program, "-e", "stderr", "-p", str(folder), "-c", str(config)]
            process = stack.enter_context(subprocess.Popen(command))
            stack.callback(process.terminate)
            eventually((folder / "pid").exists)
            return f"http://127.0.0.1:{port}/ops/conserver"

        yield start


_NGINX = """
daemon off;
pid {folder}/pid;
events {{ }}
http {{
  access_log off;
  client_body_temp_path {folder}/bodies;
  proxy_temp_path {folder}/proxied;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  client_max_body_size 100m;
  server {{
    listen 127.0.0.1:{port};
    location /ops/conserver/ {{
      proxy_pass {url};
      proxy_http_version 1.1;
      proxy_set_header Host $http_host;
      proxy_set_header X-Forwarded-Proto $scheme;
    }}
  }}
}}
"""
