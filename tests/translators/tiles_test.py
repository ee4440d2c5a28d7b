"""Large pictures in tiles: the pixels of the whole picture, whatever the norm and the sampling."""

import numpy as np
import pytest

from cut_tf import networks
from cut_tf.common.errors import InputError
from cut_tf.methods import build_method
from cut_tf.settings import Settings
from cut_tf.translators import run
from cut_tf.translators.run import Translator, compile_generator, translate_in_tiles
from cut_tf.translators.tiles import ResnetTiles

SIZES = ((130, 171), (96, 64), (19, 200))


def _generator(**settings):
    """With weights large enough for pictures that use the whole range of colours."""
    generator = networks.build_generator(Settings.of(**{"ngf": 8, "generator_blocks": 2, **settings}), seed=3)
    for weight in generator.weights:
        weight.assign(weight * 20.0)
    return generator


def _picture(height, width):
    """Noise over a slope: its left and right halves have other means than the whole."""
    noise = np.random.default_rng(0).normal(128, 60, [height, width, 3])
    return np.clip(noise + np.linspace(-80, 80, width)[None, :, None], 0, 255).astype(np.uint8)


@pytest.mark.parametrize("antialias, blocks, odd_sizes", [(True, 2, "mirror"), (False, 0, "mirror"),
                                                          (True, 1, "official"), (False, 1, "official")])
def test_instance_norms_statistics_are_those_of_the_whole_picture(antialias, blocks, odd_sizes):
    generator = _generator(antialias_down=antialias, antialias_up=antialias, generator_blocks=blocks,
                           odd_sizes=odd_sizes)
    whole, tiles = compile_generator(generator), ResnetTiles(generator, tile_px=32)
    for size in SIZES:
        picture = _picture(*size)
        expected, found = whole(picture[None]).numpy()[0].astype(int), tiles(picture)
        assert found.shape == picture.shape and found.dtype == np.uint8 and expected.std() > 30
        # The last bit of a float may round a few values to the next level.
        np.testing.assert_allclose(found, expected, atol=1)
        assert np.mean(found != expected) < 1e-3
    # A part translated by itself is another picture: the comparison can fail.
    part = whole(_picture(96, 64)[None, :, :32]).numpy()[0].astype(int)
    assert np.abs(part - whole(_picture(96, 64)[None]).numpy()[0, :, :32]).mean() > 3


@pytest.mark.parametrize("norm", ["none", "batch"])
@pytest.mark.parametrize("antialias", [True, False])
def test_other_norms_see_no_farther_than_their_reach(norm, antialias):
    generator = _generator(generator_norm=norm, antialias_down=antialias, antialias_up=antialias,
                           odd_sizes="official" if norm == "batch" else "mirror")
    assert generator.reach_px % 4 == 0
    translate = compile_generator(generator)
    for size in SIZES[:2]:
        expected = translate(_picture(*size)[None]).numpy()[0].astype(int)
        found = translate_in_tiles(translate, _picture(*size), generator.reach_px, tile_px=32)
        np.testing.assert_allclose(found, expected, atol=1)
        assert np.mean(found != expected) < 1e-3


def test_the_translator_takes_tiles_above_its_limit(tmp_path, tiny_settings, monkeypatch):
    method = build_method(tiny_settings())
    method.compile()
    method.save(tmp_path / "run")
    picture = _picture(70, 90)
    expected = Translator(tmp_path / "run")(picture).astype(int)
    monkeypatch.setattr(run, "MOST_PIXELS_AT_ONCE", 70 * 90 - 1)
    translator = Translator(tmp_path / "run")
    np.testing.assert_allclose(translator(picture), expected, atol=1)
    assert translator.traces == 0  # not as a whole


def test_a_picture_too_large_for_a_generator_without_tiles_is_refused_by_name(tmp_path, tiny_settings, monkeypatch):
    method = build_method(tiny_settings(generator="mobile", generator_norm="none", nce_layers="0,1,2,3"))
    method.compile()
    method.save(tmp_path / "run")
    monkeypatch.setitem(run.MOST_PIXELS, "mobile", 1200)
    translator = Translator(tmp_path / "run")
    assert translator(_picture(30, 40)).shape == (30, 40, 3)
    with pytest.raises(InputError, match="large.png: pictures must have at most 1200 pixels for --generator=mobile, "
                                         "found 41x30"):
        translator(_picture(30, 41), "large.png")
