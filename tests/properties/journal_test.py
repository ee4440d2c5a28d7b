"""The journal of a stopped make_haze: cut anywhere it loses its last line; damaged, it is named."""

from __future__ import annotations

import dataclasses
import json
import tempfile
from pathlib import Path
from types import SimpleNamespace

from hypothesis import given, strategies as st

from cut_tf.common.errors import InputError
from cut_tf.data.haze.recipe import HazeRecipe
from tools import make_haze

_HEADER = {"format": 1, "source": "clear ä", **dataclasses.asdict(HazeRecipe(seed=3))}
_FILES = [f"trainA/p{number}.png" for number in range(5)]
_TASKS = [SimpleNamespace(file=file) for file in _FILES]
_LINES = [_HEADER, *({"file": file, "beta": 0.25 * number} for number, file in enumerate(_FILES))]
_JOURNAL = "".join(json.dumps(line) + "\n" for line in _LINES).encode()
_HEADER_BYTES = len(json.dumps(_HEADER)) + 1


def _begun(journal: bytes) -> dict[str, dict]:
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root)
        (folder / "journal.jsonl").write_bytes(journal)
        (folder / "complete").touch()  # so that no picture is asked for
        return make_haze._begun(folder, _HEADER, _TASKS)


@given(st.integers(_HEADER_BYTES, len(_JOURNAL)))
def test_a_journal_cut_anywhere_keeps_its_whole_lines(end):
    whole = _JOURNAL[:end].count(b"\n") - 1
    assert _begun(_JOURNAL[:end]) == {line["file"]: line for line in _LINES[1:1 + whole]}


@given(st.integers(0, len(_JOURNAL) - 1), st.binary(min_size=1, max_size=6))
def test_a_damaged_journal_is_named_or_only_lacks_what_is_damaged(place, damage):
    try:
        found = _begun(_JOURNAL[:place] + damage + _JOURNAL[place + len(damage):])
    except InputError as error:
        assert "journal.jsonl: must be the journal of a stopped run" in str(error) or "another recipe" in str(error)
        return
    # At most one line's file, or that of two lines joined, has become another.
    assert len(set(_FILES) - set(found)) <= 2 and set(found) <= set(_FILES)
