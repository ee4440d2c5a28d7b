"""Every setting is explained where a reader looks for it."""

import re
from pathlib import Path

from cut_tf.settings import FIELDS

ROOT = Path(__file__).parents[2]


def test_every_setting_is_in_the_documentation_or_in_a_flagfile():
    files = [ROOT / "README.md", *(ROOT / "docs").rglob("*.md"), *(ROOT / "cut_tf" / "flagfiles").glob("*.flags")]
    named = set(re.findall(r"--(\w+)", " ".join(file.read_text(encoding="utf-8") for file in files)))
    assert len(FIELDS) > 100
    assert [name for name in FIELDS if not {name, f"no{name}"} & named] == []
