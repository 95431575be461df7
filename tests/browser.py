"""A real browser for the tests that look at pages, and how to see what sticks out of one."""

import contextlib
import os
import shutil
from collections.abc import Iterator

import pytest

PHONE = 360

# Elements that stick out of the page, unless something around them scrolls.
STICKS_OUT = """() => {
  const width = document.documentElement.clientWidth
  if (document.documentElement.scrollWidth <= width) return []
  const contained = e => { for (let a = e.parentElement; a && a !== document.body; a = a.parentElement)
                             if (getComputedStyle(a).overflowX !== 'visible') return true
                           return false }
  const out = [...document.querySelectorAll('body *')].filter(e => e.getBoundingClientRect().right > width + 1 && !contained(e))
  return [`page is ${document.documentElement.scrollWidth} px wide`, ...out.slice(0, 3).map(e => e.outerHTML.slice(0, 80))]
}"""


def find_browser() -> str:
    """Path of a Chromium; without one the test is skipped, or fails where JEPA_REQUIRE_BROWSER=1."""
    found = next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )
    if found is None:
        reason = "no Chromium on this machine (Debian: apt-get install chromium), so no page was looked at"
        pytest.fail(reason) if os.environ.get("JEPA_REQUIRE_BROWSER") == "1" else pytest.skip(
            reason
        )
    return found


@contextlib.contextmanager
def open_browser() -> Iterator:
    """A browser that reaches nothing but this machine, and asks for nothing on its own account."""
    executable = find_browser()
    from playwright.sync_api import sync_playwright

    options = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
    ]
    options += ["--disable-sync", "--no-first-run"]
    options += ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"]
    # Playwright keeps an event loop running while it is open: closed here, it is in no other test's
    # way.
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=executable, args=options) as browser,
    ):
        yield browser
