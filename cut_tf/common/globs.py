"""Globs of files at any place. `*` and `?` stay within a name, `**/` is any number of folders, none too."""

from __future__ import annotations

import re

from cut_tf.common import places

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
    """Sorted files in the folder `root`, which is no pattern, whose names relative to it fit the pattern `rest`."""
    fits = re.compile(_regex(rest))
    start = len(places.join(root, ""))
    with places.named(places.join(root, rest), "must be a glob of readable files"):
        found = [places.join(folder, name) for folder, names in places.walk(root, "/" in rest) for name in names]
        return sorted(place for place in found if fits.fullmatch(place[start:]))


def _regex(pattern: str) -> str:
    """The regular expression of a glob over relative names."""
    parts, at = [], 0
    while at < len(pattern):
        character = pattern[at]
        closing = pattern.find("]", at + 2) if character == "[" else -1
        if pattern.startswith("**/", at):
            parts.append("(?:[^/]+/)*")
            at += 2
        elif character in "*?":
            parts.append("[^/]*" if character == "*" else "[^/]")
        elif closing > 0:
            inner = pattern[at + 1:closing]
            parts.append("[" + ("^" if inner[0] in "!^" else "") + re.escape(inner.lstrip("!^")).replace(r"\-", "-")
                         + "]")
            at = closing
        else:
            parts.append(re.escape(character))
        at += 1
    return "".join(parts)
