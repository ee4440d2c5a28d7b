"""Globs of files at any place. `*` and `?` stay within a name, `**/` is any number of folders, none too."""

from __future__ import annotations

import math
import re

from cut_tf.common import places
from cut_tf.common.errors import InputError

_WILDCARD = re.compile(r"[*?\[]")


def has_wildcard(place: str) -> bool:
    """Whether it is a glob: holds `*`, `?` or `[`."""
    return _WILDCARD.search(place) is not None


def split(pattern: str) -> tuple[str, str]:
    """The folder that a glob searches, "." if it names none, and the rest of it."""
    start = _WILDCARD.search(pattern).start()
    head, slash, _ = pattern[:start].rpartition("/")
    return head or ("/" if slash else "."), pattern[len(head) + len(slash):]


def matching(root: str, rest: str) -> list[str]:
    """Sorted files in the folder `root`, which is no pattern, whose names relative to it fit the pattern `rest`.

    Raises:
      InputError: if the folder cannot be read, or the pattern has a range such as [z-a].
    """
    fits = re.compile(_regex(rest))
    start = len(places.join(root, ""))
    with places.named(places.join(root, rest), "must be a glob of readable files"):
        depth = math.inf if "**/" in rest else rest.count("/")
        found = [places.join(folder, name) for folder, names in places.walk(root, depth) for name in names]
        return sorted(place for place in found if fits.fullmatch(place[start:]))


def _regex(pattern: str) -> str:
    """The regular expression of a glob over relative names. Raises InputError for a class that cannot be."""
    parts, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        closing = _end_of_class(pattern, at) if character == "[" else -1
        if pattern.startswith("**/", at):
            parts.append("(?:[^/]+/)*")
            at += 2
        elif character in "*?":
            parts.append("[^/]*" if character == "*" else "[^/]")
        elif closing > 0:
            parts.append(_class(pattern, pattern[at + 1:closing]))
            at = closing
        else:
            parts.append(re.escape(character))
        at += 1
    return "".join(parts)


def _end_of_class(pattern: str, start: int) -> int:
    """Where the class ends that begins at `start`; -1 if it does not end within the name: a mere bracket."""
    closing = pattern.find("]", start + (3 if pattern[start + 1:start + 2] in ("!", "^") else 2))
    return -1 if "/" in pattern[start:closing] else closing


def _class(pattern: str, inner: str) -> str:
    excluded = inner[0] in "!^"
    # No class fits the slash between names.
    found = (f"(?!/)[{'^' if excluded else ''}"
             + re.escape(inner[1:] if excluded else inner).replace(r"\-", "-") + "]")
    try:
        re.compile(found)
    except re.error as error:
        raise InputError(f"{pattern}: ranges of a glob must go up, as in [a-z], found [{inner}]") from error
    return found
