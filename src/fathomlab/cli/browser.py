"""Opens a page in the default browser."""

import os
import sys
import webbrowser

TERMINAL_BROWSERS = ("www-browser", "links", "elinks", "lynx", "w3m")


def open_page(link: str) -> str:
    """Open a link in the default browser; returns why it was not opened, or `""`."""
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "this session has no display"
    try:
        browser = webbrowser.get()
        if getattr(browser, "name", "") in TERMINAL_BROWSERS:
            return "no graphical browser was found"
        return "" if browser.open(link) else "the browser did not start"
    except (webbrowser.Error, OSError) as error:
        return str(error) or "no browser was found"
