"""Tests that install packages skip where there is no network, and fail for any other reason."""

from __future__ import annotations

import re

import pytest

# As pip and npm tell it.
_NONE = re.compile(r"connection broken by|ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ENETUNREACH|EHOSTUNREACH|ETIMEDOUT")


def skip_without_network(said: str) -> None:
    """Skips the test if that is what pip or npm said when it found no network."""
    found = _NONE.search(said)
    if found:
        pytest.skip(f"no network here to install from: {found[0]}")
