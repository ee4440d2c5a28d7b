"""Headless Chromium for tests of pages, and servers in processes of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome

Found = TypeVar("Found")
LONGEST_SEC = 120
_ARGUMENTS = ("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
              "--disable-background-networking", "--disable-component-update", "--disable-sync",
              "--window-size=1280,1000")
# Ends a process, with a file that tells why, as soon as it talks to another machine.
_WATCH = '''
import os, socket
_connect = socket.socket.connect
_lookup = socket.getaddrinfo

def _watched(self, address):
    if self.family in (socket.AF_INET, socket.AF_INET6) and address[0] not in ("127.0.0.1", "::1", "localhost"):
        _tell(address)
    return _connect(self, address)

def _watched_lookup(host, *arguments, **keywords):
    if host not in (None, "", "127.0.0.1", "::1", "localhost", b"127.0.0.1", b"localhost"):
        _tell(host)
    return _lookup(host, *arguments, **keywords)

def _tell(what):
    with open(os.environ["CUT_TF_TOLD"], "a") as file:
        print(what, file=file)
    raise OSError("this test has no network")

socket.socket.connect, socket.getaddrinfo = _watched, _watched_lookup
'''


def need_browser() -> None:
    """Skips the test, with the reason, where Chromium, its driver or Selenium is missing."""
    pytest.importorskip("selenium", reason="the extra browser (selenium) is not installed")
    for program in ("chromium", "chromedriver"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: apt-get install chromium chromium-driver)")


@contextlib.contextmanager
def chromium(folder: Path, *arguments: str) -> Iterator[Chrome]:
    """A new browser with an empty profile.

    Args:
      folder: empty or not there yet; gets the profile, and downloads in `folder / "downloads"`.
      *arguments: further ones of Chromium.
    """
    from selenium.webdriver import Chrome, ChromeOptions
    from selenium.webdriver.chrome.service import Service

    (folder / "downloads").mkdir(parents=True)
    options = ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in (*_ARGUMENTS, f"--user-data-dir={folder / 'profile'}", *arguments):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(folder / "downloads")})
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = Chrome(options=options, service=Service(shutil.which("chromedriver")))
    driver.set_script_timeout(LONGEST_SEC)
    try:
        yield driver
    finally:
        driver.quit()


def wait(driver: Chrome, condition: Callable[[Chrome], Found], what: str) -> Found:
    """What `condition` returns as soon as it is true. Elements that the page replaces meanwhile are looked up again."""
    from selenium.common.exceptions import StaleElementReferenceException
    from selenium.webdriver.support.wait import WebDriverWait

    return WebDriverWait(driver, LONGEST_SEC, ignored_exceptions=[StaleElementReferenceException]).until(
        condition, f"waited for {what}; the browser says {driver.get_log('browser')}")


def addresses(driver: Chrome) -> set[str]:
    """What the browser asked for since this was last called, but for its own pages and inline data."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    asked = {message["params"]["request"]["url"] for message in messages
             if message["method"] == "Network.requestWillBeSent"}
    return {address for address in asked if not address.startswith(("data:", "blob:", "chrome:"))}


@contextlib.contextmanager
def serving(command: Sequence[str], folder: Path, begins: str, **environment: str) -> Iterator[tuple[str, Path]]:
    """A server in a process of its own that may not talk to any other machine.

    Args:
      command: what stands behind `python`.
      folder: the working directory.
      begins: how the line begins that tells the address.
      **environment: variables.

    Yields:
      The first line of its output that begins so, without that, and a file that names every other machine that it
      tried to reach; there is none if it did not.
    """
    watch, told = folder / "watch", folder / "told.txt"
    watch.mkdir()
    (watch / "sitecustomize.py").write_text(_WATCH, encoding="utf-8")
    path = os.pathsep.join(filter(None, [str(watch), environment.pop("PYTHONPATH", os.environ.get("PYTHONPATH"))]))
    process = subprocess.Popen(
        [sys.executable, "-u", *command], cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **environment, "PYTHONPATH": path, "CUT_TF_TOLD": str(told)})
    timer = threading.Timer(LONGEST_SEC, process.kill)
    timer.start()
    try:
        said = []
        for line in process.stdout:
            said.append(line)
            if line.startswith(begins):
                break
        else:
            raise AssertionError(f"the server ended or took too long: {''.join(said)[-3000:]}")
        timer.cancel()
        yield line[len(begins):].split()[0], told
    finally:
        timer.cancel()
        process.terminate()
        process.communicate(timeout=LONGEST_SEC)
