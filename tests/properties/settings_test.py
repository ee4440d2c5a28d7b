"""Settings that are valid survive their file; texts that are none are refused with the file's name."""

from __future__ import annotations

import dataclasses
import json

from hypothesis import given, strategies as st

from cut_tf.common.errors import InputError
from cut_tf.settings import SECTIONS, Settings

_FREE_TEXTS = ("", "photos", "A,B", "scenes+hazed:ä b", "run:x@7", "0,4,8", 'with "quotes" and \\')


def _values(field: dataclasses.Field) -> st.SearchStrategy:
    if field.metadata["choices"]:
        return st.sampled_from(field.metadata["choices"])
    return {bool: st.booleans(), int: st.integers(0, 2**33), str: st.sampled_from(_FREE_TEXTS),
            float: st.floats(0, 1e9)}[field.metadata["kind"]]


@st.composite
def _changed(draw: st.DrawFn) -> Settings:
    """Settings with a few values of their fields' kinds; a section of values that do not fit keeps its defaults."""
    settings = Settings()
    for name, type_ in SECTIONS.items():
        fields = draw(st.lists(st.sampled_from(dataclasses.fields(type_)), max_size=3, unique=True))
        values = {field.name: draw(_values(field)) for field in fields}
        try:
            settings = dataclasses.replace(settings, **{name: type_(**values)})
        except InputError:
            continue
    return settings


def test_valid_settings_are_read_back_as_they_were():
    changed = []

    @given(_changed())
    def survive_their_file(settings):
        again = Settings.from_json(settings.to_json(), "x")
        assert again == settings and again.differences(settings) == []
        assert json.loads(settings.to_json()).keys() == set(SECTIONS)
        changed.append(len(settings.differences(Settings())))

    survive_their_file()
    assert sum(count > 0 for count in changed) >= 30  # of 60 examples, of which two or three are the defaults


_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(max_size=8),
                     lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
                         st.sampled_from(("data", "network", "loss", "train", "seed", "ngf", "x")), inner, max_size=4),
                     max_leaves=8)


@given(st.one_of(st.text(max_size=40), _JSON.map(json.dumps)))
def test_texts_that_are_no_settings_are_named(text):
    try:
        found = Settings.from_json(text, "runs/x/settings.json")
    except InputError as error:
        # What is wrong with one value is told by its flag.
        assert str(error).startswith(("runs/x/settings.json: ", "--"))
    else:
        assert Settings.from_json(found.to_json(), "x") == found
