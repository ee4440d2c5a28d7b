"""The translate command on good and bad files, and the Translator behind it."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cut_tf.baselines import BASELINES
from cut_tf.batch.translation import TranslatorChoice
from cut_tf.common.errors import InputError
from cut_tf.export.saved_model.export import export_saved_model
from cut_tf.export.tflite.export import export_tflite
from cut_tf.methods import build_method
from cut_tf.translators.exported import TFLiteTranslator
from cut_tf.translators.run import Translator
from tests import warm_process
from tests.pixels import assert_same_but_for_rounding

ROOT = Path(__file__).parents[1]


@pytest.fixture
def run(tmp_path, tiny_settings):
    """A saved model whose running means differ from its raw weights."""
    method = build_method(tiny_settings())
    method.compile()
    for weight in method.ema_generator.weights:
        weight.assign(weight * 20.0)
    method.save(tmp_path / "run")
    return tmp_path / "run", method


def _picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def _translate(*flags):
    return warm_process.run(["-m", "cut_tf.translate", *flags], ROOT)


@pytest.mark.parametrize("size", [(16, 16), (17, 39), (64, 30)])
def test_translator_gives_the_models_pixels_at_any_size(run, size):
    folder, method = run
    picture = _picture(*size)
    assert_same_but_for_rounding(Translator(folder)(picture), method.translate(picture, weights="ema"))
    assert_same_but_for_rounding(Translator(folder, "last")(picture), method.translate(picture, weights="raw"))
    assert np.any(method.translate(picture, "ema") != method.translate(picture, "raw"))


def test_saving_a_step_twice_is_refused_and_changes_nothing(run):
    folder, method = run
    before = Translator(folder)(_picture(20, 20))
    for weight in method.ema_generator.weights:
        weight.assign(weight * 2.0)
    with pytest.raises(InputError, match="step_0000000000: a checkpoint of step 0 is there, and is not replaced"):
        method.save(folder)
    np.testing.assert_array_equal(Translator(folder)(_picture(20, 20)), before)


def test_size_train_resizes_first(run):
    folder, method = run
    picture = _picture(80, 100)
    shrunk = np.asarray(Image.fromarray(picture).resize((36, 36), Image.Resampling.BICUBIC))
    expected = Image.fromarray(method.translate(shrunk)).resize((100, 80), Image.Resampling.BICUBIC)
    assert_same_but_for_rounding(Translator(folder, size="train")(picture), np.asarray(expected))


def test_translator_says_what_is_wrong(run, tmp_path):
    folder, _ = run
    with pytest.raises(InputError, match="tiny.png: sides must be at least 16 px, found 20x15"):
        Translator(folder)(_picture(15, 20), "tiny.png")
    with pytest.raises(InputError, match="--weights=best needs a run with test pairs"):
        Translator(folder, "best")
    with pytest.raises(InputError, match="--run must be the folder of a run, found no settings.json"):
        Translator(tmp_path / "nothing")


def test_a_run_without_running_means(tmp_path, tiny_settings):
    method = build_method(tiny_settings(ema_decay=0.0))
    method.compile()
    method.save(tmp_path / "run")
    picture = _picture(20, 20)
    assert_same_but_for_rounding(Translator(tmp_path / "run")(picture), method.translate(picture, weights="raw"))
    with pytest.raises(InputError, match="--weights=ema needs a run with --ema_decay above 0"):
        Translator(tmp_path / "run", "ema")


def test_folder_with_good_and_bad_files(run, tmp_path):
    folder, method = run
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    good = _picture(33, 47)
    Image.fromarray(good).save(source / "good.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(_picture(32, 48, 1)).save(source / "turned.jpg", exif=exif, quality=95)
    Image.fromarray(_picture(20, 30)[..., 0]).save(source / "grey.png")
    Image.fromarray(_picture(1, 1)).save(source / "dot.png")
    (source / "text.jpg").write_text("no picture")
    (source / "cut.png").write_bytes((source / "good.png").read_bytes()[:500])
    (source / "notes.txt").write_text("ignored")

    result = _translate(f"--run={folder}", f"--input={source}", f"--output={output}", "--compare")
    assert result.returncode == 1, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 3
    for name in ("dot.png", "text.jpg", "cut.png"):
        assert any(f"{source / name}" in line for line in errors), name
    assert sorted(path.name for path in output.glob("*.*")) == ["good.png", "grey.png", "turned.jpg"]
    translated = np.asarray(Image.open(output / "good.png"))
    assert_same_but_for_rounding(translated, method.translate(good))
    assert Image.open(output / "turned.jpg").size == (32, 48)
    side_by_side = np.asarray(Image.open(output / "compare" / "good.png"))
    np.testing.assert_array_equal(side_by_side, np.concatenate([good, translated], axis=1))

    # Nothing is replaced unless asked for.
    before = (output / "good.png").read_bytes()
    result = _translate(f"--run={folder}", f"--input={source / 'good.png'}", f"--output={output}", "--weights=last")
    assert result.returncode == 2
    assert "error: --output=" in result.stderr and "--overwrite" in result.stderr
    assert (output / "good.png").read_bytes() == before
    result = _translate(f"--run={folder}", f"--input={source / 'good.png'}", f"--output={source}", "--overwrite")
    assert result.returncode == 2 and "--output must be another folder" in result.stderr
    np.testing.assert_array_equal(np.asarray(Image.open(source / "good.png")), good)


def test_the_dark_channel_prior_needs_no_run(tmp_path):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    pictures = {"wide.png": _picture(33, 47), "dot.png": _picture(1, 1)}
    for name, picture in pictures.items():
        Image.fromarray(picture).save(source / name)
    Image.fromarray(_picture(20, 30)[..., 0]).save(source / "grey.gif")
    (source / "text.jpg").write_text("no picture")
    result = _translate("--method=dark_channel_prior", f"--input={source}", f"--output={output}", "--compare")
    assert result.returncode == 1, result.stderr
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and f"{source / 'text.jpg'}" in errors[0]
    assert sorted(path.name for path in output.glob("*.*")) == ["dot.png", "grey.png", "wide.png"]
    for name, picture in pictures.items():
        expected = BASELINES["dark_channel_prior"](picture)
        np.testing.assert_array_equal(np.asarray(Image.open(output / name)), expected)
        np.testing.assert_array_equal(np.asarray(Image.open(output / "compare" / name)),
                                      np.concatenate([picture, expected], axis=1))
    again = _translate("--method=dark_channel_prior", f"--input={source}", f"--output={output}")
    assert again.returncode == 2 and "give --overwrite" in again.stderr


def test_a_strength_lies_between_input_and_output(tmp_path):
    picture = _picture(20, 30)
    Image.fromarray(picture).save(tmp_path / "a.png")
    output = BASELINES["dark_channel_prior"](picture).astype(float)
    for strength in (0, 0.5, 1):
        done = _translate("--method=dark_channel_prior", f"--input={tmp_path / 'a.png'}", f"--strength={strength}",
                          f"--output={tmp_path / str(strength)}", "--compare")
        assert done.returncode == 0, done.stderr
        expected = np.rint(picture + strength * (output - picture))
        found = np.asarray(Image.open(tmp_path / str(strength) / "a.png"))
        np.testing.assert_array_equal(found, expected)
        side_by_side = np.asarray(Image.open(tmp_path / str(strength) / "compare" / "a.png"))
        np.testing.assert_array_equal(side_by_side[:, 30:], found)


@pytest.mark.parametrize("given, message", [
    ([], "one of --run, --model, --saved_model, --tflite and --method must say what translates, found none"),
    (["--run=a", "--tflite=b"], "one of --run, .* must say what translates, found --run=a, --tflite=b"),
    (["--model=dehaze_mobile", "--tflite=b"], "one of --run, .* found --model=dehaze_mobile, --tflite=b"),
    (["--model=no_such"], "--model must be one of .*dehaze_mobile.*, found 'no_such'"),
    (["--method=dark_channel_prior", "--run=somewhere"], "--run must not be given with --method=dark_channel_prior, "
                                                         "which uses no generator, found 'somewhere'"),
    (["--method=dark_channel_prior", "--output="], "--output must not be empty, found ''"),
    (["--method=dark_channel_prior", "--input="], "--input must not be empty, found ''"),
    (["--saved_model=model[1]"], r"--saved_model must be a path without .* found model\[1\]"),
    (["--saved_model=somewhere", "--size=train"], "--size must not be given without --run or --tflite, found 'train'"),
    (["--tflite=somewhere", "--weights=ema"], "--weights must not be given without --run, found 'ema'"),
    (["--method=dark_channel_prior", "--weights=ema"], "--weights must not be given .* found 'ema'"),
    (["--method=dark_channel_prior", "--size=train"], "--size must not be given .* found 'train'"),
    *((["--model=dehaze_mobile", f"--strength={wrong}"], f"--strength must be from 0, the input, to 1, the output, "
       f"found {wrong}") for wrong in (-0.1, 1.5, "nan")),
])
def test_flags_that_do_not_go_with_the_method(tmp_path, given, message):
    Image.fromarray(_picture(20, 20)).save(tmp_path / "a.png")
    result = _translate(f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}", *given)
    assert result.returncode == 2 and re.search(f"^error: {message}$", result.stderr, re.MULTILINE), result.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_written_is_refused_before_the_model_is_loaded(tmp_path):
    Image.fromarray(_picture(20, 20)).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("mine")
    result = _translate("--run=no_such_run", f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'file'}")
    assert result.returncode == 2
    assert (f"error: --output={tmp_path / 'file'} must be a folder that can be written, found the file "
            f"{tmp_path / 'file'}") in result.stderr, result.stderr


def test_a_file_for_any_size_has_none_to_resize_to():
    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    with pytest.raises(InputError, match="--size=train must be given .* of one size, .* which takes any"):
        TranslatorChoice(tflite=str(_TWIN), size="train").open()


def test_an_unknown_method_is_refused_with_the_names(tmp_path):
    result = _translate("--method=magic", f"--input={tmp_path}", f"--output={tmp_path / 'out'}")
    assert result.returncode != 0 and "run|dark_channel_prior" in result.stderr + result.stdout
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_exported_generators_translate_like_the_run(tmp_path, run):
    folder, _ = run
    saved_model = export_saved_model(Translator(folder), tmp_path / "model")
    (tmp_path / "in").mkdir()
    for number in range(2):
        Image.fromarray(_picture(20 + number, 30)).save(tmp_path / "in" / f"{number}.png")
    sources = {"run": f"--run={folder}", "saved_model": f"--saved_model={saved_model.parent}"}
    if importlib.util.find_spec("ai_edge_litert"):
        export_tflite(Translator(folder), tmp_path / "phone")
        sources["tflite"] = f"--tflite={tmp_path / 'phone' / 'phone_any_none.tflite'}"
    for name, flag in sources.items():
        done = _translate(flag, f"--input={tmp_path / 'in'}", f"--output={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        for number in range(2):
            found, expected = (np.asarray(Image.open(tmp_path / folder_name / f"{number}.png")).astype(int)
                               for folder_name in (name, "run"))
            assert np.abs(found - expected).max() <= 1


def test_change_from_picture_to_picture_is_told(tmp_path):
    """The baseline leaves uniform pictures nearly as they are, so the change is that of the input."""
    (tmp_path / "in").mkdir()
    for number, level in enumerate((100, 104, 98)):
        Image.new("RGB", (24, 24), (level,) * 3).save(tmp_path / "in" / f"{number}.png")
    done = _translate("--method=dark_channel_prior", f"--input={tmp_path / 'in'}", f"--output={tmp_path / 'out'}",
                      "--temporal")
    outputs = [np.asarray(Image.open(tmp_path / "out" / f"{number}.png")).astype(float) for number in range(3)]
    change = np.mean([np.abs(new - old).mean() for old, new in zip(outputs, outputs[1:])])
    assert f"input 5.00, output {change:.2f} levels, {change / 5:.2f} times" in done.stdout, done.stdout


def test_a_link_to_nothing_is_named_and_the_others_are_translated(tmp_path):
    Image.fromarray(_picture(20, 20)).save(tmp_path / "a.png")
    (tmp_path / "b.png").symlink_to("/nowhere/b.png")
    done = _translate("--method=dark_channel_prior", f"--input={tmp_path}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 1 and f"error: {tmp_path / 'b.png'}" in done.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]


def test_two_pictures_with_one_result_are_refused(tmp_path):
    for name in ("a.png", "a.gif"):
        Image.new("RGB", (24, 24)).save(tmp_path / name)
    done = _translate("--method=dark_channel_prior", f"--input={tmp_path}", f"--output={tmp_path / 'out'}")
    assert done.returncode == 2 and "must not hold two pictures of one stem" in done.stderr
    assert "found a.gif and a.png" in done.stderr and not (tmp_path / "out").exists()


def test_no_comparison_takes_the_place_of_a_picture_or_of_another_comparison(tmp_path):
    (tmp_path / "x" / "compare").mkdir(parents=True)
    picture = tmp_path / "x" / "compare" / "a.png"
    Image.fromarray(_picture(24, 24)).save(picture)
    before = picture.read_bytes()
    method = "--method=dark_channel_prior"
    done = _translate(method, f"--input={picture.parent}", f"--output={tmp_path / 'x'}", "--compare", "--overwrite")
    assert done.returncode == 2 and f"the result {picture} would replace the picture {picture}" in done.stderr
    Image.fromarray(_picture(24, 24)).save(picture.with_suffix(".bmp"))
    done = _translate(method, f"--input={picture.parent}", f"--output={tmp_path / 'out'}", "--compare")
    assert done.returncode == 2 and f"found a.bmp and a.png, both for {tmp_path / 'out/compare/a.png'}" in done.stderr
    assert picture.read_bytes() == before and not (tmp_path / "out").exists()
    assert sorted(path.name for path in (tmp_path / "x").rglob("*.*")) == ["a.bmp", "a.png"]


def test_a_comparison_that_is_there_is_not_replaced_unless_asked_for(tmp_path):
    Image.fromarray(_picture(24, 24)).save(tmp_path / "a.png")
    (tmp_path / "out" / "compare").mkdir(parents=True)
    (tmp_path / "out" / "compare" / "a.png").write_bytes(b"mine")
    flags = ["--method=dark_channel_prior", f"--input={tmp_path / 'a.png'}", f"--output={tmp_path / 'out'}"]
    done = _translate(*flags, "--compare")
    assert done.returncode == 2 and "has 1 of the results already" in done.stderr
    assert (tmp_path / "out" / "compare" / "a.png").read_bytes() == b"mine" and not (tmp_path / "out/a.png").exists()
    assert _translate(*flags).returncode == 0  # writes no comparison, so that one is in nobody's way


def test_a_result_never_replaces_another_picture_of_the_folder(tmp_path):
    """A GIF's result is a PNG, and may have the name of a picture that stands beside it under another name."""
    (tmp_path / "in").mkdir()
    Image.new("RGB", (24, 24)).save(tmp_path / "in" / "a.gif")
    Image.fromarray(_picture(24, 24)).save(tmp_path / "a.png")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    done = _translate("--method=dark_channel_prior", f"--input={tmp_path / 'in'}", f"--output={tmp_path}",
                      "--overwrite")
    assert done.returncode == 2 and "would replace the picture" in done.stderr, done.stderr
    assert (tmp_path / "a.png").read_bytes() == before


# A generator that fails on the pictures of some sizes as TensorFlow, NumPy and Python do.
FAILING = """
import tensorflow as tf
from cut_tf import baselines, translate

def fails(picture):
    error = {20: tf.errors.ResourceExhaustedError(None, None, "OOM when allocating\\nmore"), 21: MemoryError(),
             22: ValueError("bad")}.get(picture.shape[0])
    if error is not None:
        raise error
    return 255 - picture

baselines.BASELINES["dark_channel_prior"] = fails
translate.run()
"""


def test_no_error_of_one_picture_ends_the_folder(tmp_path):
    (tmp_path / "in").mkdir()
    for height in range(20, 25):
        Image.fromarray(_picture(height, 30)).save(tmp_path / "in" / f"{height}.png")
    done = warm_process.run(["-c", FAILING, "--method=dark_channel_prior", f"--input={tmp_path / 'in'}",
                             f"--output={tmp_path / 'out'}"], ROOT)
    assert done.returncode == 1 and "3 pictures could not be translated" in done.stdout, done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["23.png", "24.png"]
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    too_large = "cannot be translated; it is too large for the memory of this machine"
    assert errors == [
        f"error: {tmp_path / 'in' / '20.png'}: {too_large} (ResourceExhaustedError: OOM when allocating)",
        f"error: {tmp_path / 'in' / '21.png'}: {too_large} (MemoryError: )",
        f"error: {tmp_path / 'in' / '22.png'}: cannot be translated (ValueError: bad)"]


_WITHOUT_TENSORFLOW = """
import runpy, sys
sys.modules["tensorflow"] = None  # importing it, as Keras does too, is an error
sys.argv = ["translate", *sys.argv[1:]]
runpy.run_module("cut_tf.translate", run_name="__main__")
"""


_NEEDS_LITERT = pytest.mark.skipif(not importlib.util.find_spec("ai_edge_litert"), reason="needs the extra mobile")
_BOX = ROOT / "saved_models"
_TWIN = _BOX / "dehaze_mobile/dehaze_mobile_any_float16.tflite"


@_NEEDS_LITERT
@pytest.mark.parametrize("flag", [f"--tflite={_TWIN}", "--model=dehaze_mobile"])
def test_a_tflite_file_translates_a_picture_without_tensorflow(tmp_path, flag):
    picture = _picture(40, 57)
    Image.fromarray(picture).save(tmp_path / "a.png")
    done = subprocess.run([sys.executable, "-c", _WITHOUT_TENSORFLOW, flag, f"--input={tmp_path}/a.png",
                           f"--output={tmp_path}/out"], cwd=ROOT, text=True, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(Image.open(tmp_path / "out/a.png"), TFLiteTranslator(_TWIN)(picture))


# Without loading any model: pictures stay as they are.
_CHOOSING = """
import sys
from cut_tf import translate

if "--without_runtime" in sys.argv:
    sys.argv.remove("--without_runtime")
    sys.modules["ai_edge_litert"] = None
translate._translation = lambda choice: lambda picture, where: picture
translate.run()
"""


@_NEEDS_LITERT
@pytest.mark.parametrize("given, expected", [
    ([], _TWIN), (["--strength=0.5", "--compare"], _TWIN),
    (["--tf32"], _BOX / "dehaze_mobile"), (["--without_runtime"], _BOX / "dehaze_mobile"),
    (["--input={folder}/in"], _BOX / "dehaze_mobile"), (["--input={folder}/large.png"], _BOX / "dehaze_mobile"),
    (["--model=dehaze"], _BOX / "dehaze"),
])
def test_which_file_of_a_model_translates(tmp_path, given, expected):
    """The .tflite file for one picture of up to 2^21 pixels, the SavedModel for all else."""
    (tmp_path / "in").mkdir()
    Image.new("RGB", (16, 2**17)).save(tmp_path / "in" / "a.png")
    Image.new("RGB", (16, 2**17 + 1)).save(tmp_path / "large.png")
    flags = ["--model=dehaze_mobile", f"--input={tmp_path / 'in' / 'a.png'}", f"--output={tmp_path / 'out'}",
             *(flag.format(folder=tmp_path) for flag in given)]
    done = warm_process.run(["-c", _CHOOSING, *flags], ROOT)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"^--model=\w+: {re.escape(str(expected))}$", done.stdout, re.MULTILINE), done.stdout


def test_what_is_no_picture_is_named_with_a_model_too(tmp_path):
    (tmp_path / "a.png").write_text("no picture")
    done = warm_process.run(["-c", _CHOOSING, "--model=dehaze_mobile", f"--input={tmp_path / 'a.png'}",
                             f"--output={tmp_path / 'out'}"], ROOT)
    assert done.returncode == 1 and f"error: {tmp_path / 'a.png'}: must be a complete" in done.stderr, done.stderr
