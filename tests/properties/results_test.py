"""No plan of results that goes through replaces a picture, or writes one file twice."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, strategies as st

from cut_tf.common.errors import InputError
from cut_tf.common.files import check_results

_NAMES = ("a.png", "b.png", "a.jpg", "a_comparison.png", "c.txt")


@given(inputs=st.lists(st.sampled_from(_NAMES), min_size=1, max_size=4, unique=True),
       results=st.lists(st.lists(st.sampled_from(_NAMES), max_size=2), min_size=4, max_size=4),
       present=st.sets(st.sampled_from(_NAMES)), same_folder=st.booleans(), by_link=st.booleans(),
       overwrite=st.booleans())
def test_a_plan_goes_through_if_and_only_if_nothing_is_lost(inputs, results, present, same_folder, by_link, overwrite):
    with tempfile.TemporaryDirectory() as root:
        folder = Path(root, "in")
        folder.mkdir()
        output = folder if same_folder else Path(root, "out")
        output.mkdir(exist_ok=True)
        for name in inputs:
            (folder / name).write_text("a picture")
        for name in present:
            if not (output / name).exists():
                (output / name).write_text("a result")
        written = output
        if by_link:
            written = Path(root, "link")
            written.symlink_to(output)
        plan = [(folder / name, [written / result for result in wanted]) for name, wanted in zip(inputs, results)]
        names = [result for _, wanted in zip(inputs, results) for result in wanted]
        twice = len(set(names)) < len(names)
        replaces_a_picture = same_folder and bool(set(names) & set(inputs))
        replaces_a_result = bool(set(names) & {path.name for path in output.iterdir()}) and not overwrite
        try:
            check_results(plan, written, overwrite)
        except InputError:
            assert twice or replaces_a_picture or replaces_a_result
        else:
            assert not (twice or replaces_a_picture or replaces_a_result)
