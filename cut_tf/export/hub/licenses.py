"""Licences as the two hubs name them."""

from __future__ import annotations

from typing import NamedTuple

_INSERT = "INSERT_LICENSE_NAME_HERE"
# As Hugging Face writes it, to Kaggle's name.
_KNOWN = {
    "apache-2.0": "Apache 2.0", "mit": "MIT", "bsd-3-clause": "BSD-3-Clause", "cc0-1.0": "CC0: Public Domain",
    "cc-by-4.0": "Attribution 4.0 International (CC BY 4.0)", "cc-by-sa-4.0": "CC BY-SA 4.0",
    "cc-by-nc-4.0": "Attribution-NonCommercial 4.0 International (CC BY-NC 4.0)",
    "cc-by-nc-sa-4.0": "CC BY-NC-SA 4.0", "gpl-3.0": "GPL 3",
}
NOT_STATED = "not stated"


class HubLicense(NamedTuple):
    """A licence for the heads of cards.

    Attributes:
      hugging_face: an identifier; unknown if none was stated, other for a text of one's own.
      kaggle: a name of Kaggle's list, or a placeholder, which Kaggle refuses until somebody replaces it.
    """

    hugging_face: str
    kaggle: str


def hub_license(text: str) -> HubLicense:
    """The licence that --license states."""
    identifier = text.strip().lower()
    if identifier in _KNOWN:
        return HubLicense(identifier, _KNOWN[identifier])
    return HubLicense("unknown" if identifier == NOT_STATED else "other", _INSERT)
