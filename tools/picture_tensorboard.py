"""Takes a picture of TensorBoard's page: python -m tools.picture_tensorboard --logdir=runs --output=page.png

Starts TensorBoard and Chromium without a window, on this machine. Needs Chromium (Debian: apt install chromium).
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError

_LOGDIR = flags.DEFINE_string("logdir", None, "folder of runs", required=True)
_OUTPUT = flags.DEFINE_string("output", None, "the picture, a PNG file", required=True)
_DASHBOARD = flags.DEFINE_string("dashboard", "custom_scalars", "what is shown: custom_scalars, images, hparams, text")
_WIDTH = flags.DEFINE_integer("width_px", 1400, "of the page", lower_bound=300)
_HEIGHT = flags.DEFINE_integer("height_px", 1000, "of the page", lower_bound=300)
_WAIT_SEC = flags.DEFINE_float("wait_sec", 30.0, "time for the page to draw itself, by the page's own clock",
                               lower_bound=1.0)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_LONGEST_START_SEC, _LONGEST_PICTURE_SEC = 120, 600


def take(browser: str) -> None:
    """Writes the picture. Raises InputError if TensorBoard does not answer, or the browser writes none."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    address = f"http://127.0.0.1:{port}/"
    server = subprocess.Popen([sys.executable, "-m", "tensorboard.main", f"--logdir={_LOGDIR.value}", f"--port={port}",
                               "--samples_per_plugin=images=0", "--load_fast=false"], stdout=subprocess.DEVNULL,
                              stderr=subprocess.DEVNULL)
    try:
        _wait_for(address, server)
        output = Path(_OUTPUT.value).absolute()
        subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
                        f"--window-size={_WIDTH.value},{_HEIGHT.value}", f"--screenshot={output}",
                        f"--virtual-time-budget={int(1000 * _WAIT_SEC.value)}",
                        f"{address}?darkMode=false#{_DASHBOARD.value}"],
                       check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                       timeout=_LONGEST_PICTURE_SEC)
        if not output.is_file():
            raise InputError(f"--output={output} must be writable by {browser}, found no picture there")
    finally:
        server.terminate()
        server.wait()


def _wait_for(address: str, server: subprocess.Popen) -> None:
    """Until TensorBoard answers and has read its runs."""
    end = time.monotonic() + _LONGEST_START_SEC
    while time.monotonic() < end and server.poll() is None:
        # Until it listens, the connection is refused.
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{address}data/runs", timeout=10) as answer:
            if answer.read().strip() not in (b"", b"[]"):
                return
        time.sleep(0.5)
    raise InputError(f"--logdir={_LOGDIR.value} must hold runs that TensorBoard can show, found none")


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 if there is no browser, no run or no picture (the reason is printed on stderr)."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {argv[1:]}")
        browser = next((path for path in map(shutil.which, _BROWSERS) if path), None)
        if browser is None:
            raise InputError(f"one of {', '.join(_BROWSERS)} must be installed, found none")
        take(browser)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {_OUTPUT.value}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
