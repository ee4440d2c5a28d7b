"""The exported SavedModel against the generator; versions; nothing half written."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

from cut_tf.common.errors import InputError
from cut_tf.export import FORMATS
from cut_tf.export.options import ExportOptions
from cut_tf.export.representative import representative_pictures
from cut_tf.export.saved_model import export
from cut_tf.methods import build_method
from cut_tf.translators.run import Translator

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run(tmp_path_factory, tiny_settings):
    """A saved run whose raw weights and running means draw different pictures."""
    method = build_method(tiny_settings())
    method.compile()
    for gain, network in ((10.0, method.generator), (20.0, method.ema_generator)):
        for weight in network.weights:
            weight.assign(weight * gain)
    folder = tmp_path_factory.mktemp("export") / "run"
    method.save(folder)
    return folder


def _picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


@pytest.mark.parametrize("weights, size", [("ema", (17, 41)), ("last", (32, 32))])
def test_signatures_draw_the_generators_pictures(run, tmp_path, weights, size):
    translator = Translator(run, weights)
    path = export.export_saved_model(translator, tmp_path / "model")
    assert path == tmp_path / "model" / "1"
    signatures = tf.saved_model.load(str(path)).signatures
    picture = _picture(*size)
    batch = np.stack([picture, picture[:, ::-1]])
    found = signatures["image"](image=tf.constant(batch))["image"].numpy()
    assert found.dtype == np.uint8 and found.shape == batch.shape and found.std() > 5
    for one, source in zip(found, batch):
        assert np.abs(one.astype(int) - translator(source)).max() <= 1
    floats = signatures["image_float"](image=tf.constant(batch / 127.5 - 1.0, tf.float32))["image"].numpy()
    assert np.abs((floats + 1.0) * 127.5 - found).max() <= 1.0


def test_encoded_pictures_of_any_mix_of_sizes(run, tmp_path):
    translator = Translator(run)
    path = export.export_saved_model(translator, tmp_path / "model", ExportOptions(pixel_limit=41 * 50))
    serve = tf.saved_model.load(str(path)).signatures["serving_default"]
    pictures = [_picture(17, 41), _picture(41, 50)]
    found = serve(image_bytes=tf.constant([tf.io.encode_png(picture).numpy() for picture in pictures]))["output_bytes"]
    for png, picture in zip(found, pictures):
        assert np.abs(tf.io.decode_png(png).numpy().astype(int) - translator(picture)).max() <= 1
    with pytest.raises(tf.errors.InvalidArgumentError, match="element 0: must have at most 2050 pixels, found 50x42"):
        serve(image_bytes=tf.constant([tf.io.encode_png(_picture(42, 50)).numpy()]))


def test_a_strength_is_an_optional_input_of_a_signature_of_its_own(run, tmp_path):
    path = export.export_saved_model(Translator(run), tmp_path / "model")
    graph, = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    definition = graph.signature_def["with_strength"]
    assert set(definition.inputs) == {"image_bytes", "strength"} and set(definition.outputs) == {"output_bytes"}
    assert {name: tf.make_ndarray(value).tolist() for name, value in definition.defaults.items()} == {"strength": [1.0]}
    # REST clients send pictures without a name, which only one input allows.
    assert set(graph.signature_def["serving_default"].inputs) == {"image_bytes"}
    signatures = tf.saved_model.load(str(path)).signatures
    sources = [_picture(17, 41), _picture(20, 20), _picture(33, 18)]
    encoded = tf.constant([tf.io.encode_png(source).numpy() for source in sources])

    def decoded(name: str, **inputs: tf.Tensor) -> list[np.ndarray]:
        pngs = signatures[name](image_bytes=encoded, **inputs)["output_bytes"]
        return [tf.io.decode_png(png).numpy() for png in pngs]

    outputs = decoded("serving_default")
    for strengths in ([0.0], [0.5], [1.0], [0.0, 0.25, 1.0]):
        for found, source, output, share in zip(decoded("with_strength", strength=tf.constant(strengths)), sources,
                                                outputs, strengths * 3 if len(strengths) == 1 else strengths):
            np.testing.assert_array_equal(found, np.rint(source + share * (output.astype(float) - source)))
    for wrong, message in (([0.5, float("nan"), 2.0], "element 1: strength must be from 0, .* found nan"),
                           ([-0.1], "element 0: strength must be from 0, the input, to 1, the output, found -0.1"),
                           ([0.1, 0.2], "strength must have 1 value, or one for each picture, found 2 for 3")):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            decoded("with_strength", strength=tf.constant(wrong))


def _operations(version: Path) -> list[str]:
    """Types of all operations, those of functions too."""
    graph, = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes()).meta_graphs
    functions = graph.graph_def.library.function
    return [node.op for nodes in (graph.graph_def.node, *(one.node_def for one in functions)) for node in nodes]


def test_models_for_cpus_and_for_gpus_draw_the_same_pictures(run, tmp_path):
    translator, batch = Translator(run), np.stack([_picture(33, 46), _picture(34, 46)[:33]])
    mirrors = {}
    for serve_on in ("cpu", "gpu"):
        path = export.export_saved_model(translator, tmp_path / serve_on, ExportOptions(serve_on=serve_on))
        mirrors[serve_on] = _operations(path).count("MirrorPad")
        model = tf.saved_model.load(str(path))
        found = model.signatures["image"](image=tf.constant(batch))["image"].numpy()
        for one, source in zip(found, batch):
            assert np.abs(one.astype(int) - translator(source)).max() <= 1
        if serve_on == "cpu":  # which loops over the pictures
            nothing = model.signatures["image"](image=tf.zeros([0, 20, 30, 3], tf.uint8))["image"]
            assert nothing.shape == (0, 20, 30, 3)
    # All signatures call one graph of the network. One mirroring is that of sizes that are no multiples of the
    # generator's; on a GPU those of its layers come too.
    assert mirrors["cpu"] == 1 and 4 < mirrors["gpu"] < 12


@pytest.fixture
def photographs(tmp_path):
    for index in range(4):
        Image.fromarray(_picture(40 + index, 50)).save(tmp_path / f"{index}.png")
    return tmp_path


def test_bfloat16_has_to_keep_the_quality(run, tmp_path, photographs, monkeypatch, caplog):
    caplog.set_level("INFO")
    options = ExportOptions(precision="bfloat16", representative=photographs)
    half, exact = Translator(run, precision="bfloat16"), Translator(run)
    monkeypatch.setattr(export, "_LEAST_BFLOAT16_DB", 0.0)
    path = export.export_saved_model(half, tmp_path / "model", options)
    logged, = (float(text.split(": ")[1].split()[0]) for text in caplog.messages if text.startswith("PSNR against"))
    image = tf.saved_model.load(str(path)).signatures["image_float"]
    errors = []
    pictures = representative_pictures(photographs, None)[1::2]
    for picture in pictures:
        expected = exact.generator(picture, training=False).numpy().astype(np.float64)
        errors.append(np.mean((image(image=tf.constant(picture))["image"].numpy() - expected) ** 2))
    assert 15 < logged < 60 and logged == pytest.approx(10 * np.log10(4 / np.mean(errors)), abs=0.06)
    monkeypatch.setattr(export, "_LEAST_BFLOAT16_DB", logged + 1)
    with pytest.raises(InputError, match=rf"in float32 must be at least .* dB on 2 pictures of .*, found {logged} dB"):
        export.export_saved_model(half, tmp_path / "model", options)
    assert [child.name for child in (tmp_path / "model").iterdir()] == ["1"]
    export._check_quality(path, half, pictures, options._replace(allow_quality_loss=True))


@pytest.mark.parametrize("size", [(1, 1), pytest.param((3, 20), marks=pytest.mark.slow),
                                  pytest.param((15, 15), marks=pytest.mark.slow)])
def test_pictures_below_the_least_side_keep_their_size(run, tmp_path, size):
    path = export.export_saved_model(Translator(run), tmp_path / "model")
    found = tf.saved_model.load(str(path)).signatures["image"](image=tf.constant(_picture(*size)[None]))["image"]
    assert found.shape == (1, *size, 3)


@pytest.mark.slow
def test_signatures_take_any_size(run, tmp_path):
    path = export.export_saved_model(Translator(run), tmp_path / "model")
    for name, signature in tf.saved_model.load(str(path)).signatures.items():
        _, inputs = signature.structured_input_signature
        if "image_bytes" in inputs:
            assert inputs["image_bytes"].shape.as_list() == [None] and inputs["image_bytes"].dtype == tf.string
        else:
            assert inputs["image"].shape.as_list() == [None, None, None, 3], name


def test_every_export_is_the_next_version(run, tmp_path):
    (tmp_path / "7").mkdir()
    (tmp_path / "notes").mkdir()
    (tmp_path / "²").mkdir()
    translator = Translator(run)
    assert export.export_saved_model(translator, tmp_path).name == "8"
    assert export.export_saved_model(translator, tmp_path).name == "9"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["7", "8", "9", "notes", "²"]


def test_a_model_that_draws_other_pictures_is_not_kept(run, tmp_path, monkeypatch):
    translator = Translator(run)
    other = Translator(run, "last")
    monkeypatch.setattr(export, "ServingModule", lambda _, *rest, real=export.ServingModule: real(
        other.generator, *rest))
    with pytest.raises(InputError, match=r"within 1 level, found \d+ levels of difference; nothing was written"):
        export.export_saved_model(translator, tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def test_a_full_disk_leaves_nothing(run, tmp_path, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.os, "rename", full)
    with pytest.raises(InputError, match="--output=.* cannot be written: .*No space left"):
        export.export_saved_model(Translator(run), tmp_path / "model")
    assert list((tmp_path / "model").iterdir()) == []


def _export(*flags: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-m", "cut_tf.export", *flags], cwd=ROOT, text=True, timeout=900,
                          env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}, capture_output=True)


@pytest.mark.slow
def test_command_exports_and_names_what_it_wrote(run, tmp_path):
    done = _export(f"--run={run}", "--format=saved_model", f"--output={tmp_path / 'model'}", "--weights=last")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"written: {tmp_path / 'model' / '1'}"
    assert (tmp_path / "model" / "1" / "saved_model.pb").is_file()


def test_command_refuses_a_folder_that_is_no_run(tmp_path):
    done = _export(f"--run={tmp_path}", f"--output={tmp_path / 'model'}")
    assert done.returncode == 2
    assert f"error: --run must be the folder of a run, found no settings.json in {tmp_path}" in done.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize("flags, message", [
    (["--representative=photos"], "--representative must be given with --precision=bfloat16 if --format=saved_model"),
    (["--allow_quality_loss"], "--allow_quality_loss must be given with --precision=bfloat16"),
    (["--format=tflite", "--precision=bfloat16"], "--precision must not be given with --format=tflite"),
    (["--format=space", "--serve_on=gpu"], "--serve_on must not be given with --format=space"),
])
def test_command_refuses_flags_without_an_effect(flags, message, tmp_path):
    done = _export("--run=nowhere", f"--output={tmp_path / 'model'}", *flags)
    assert done.returncode == 2 and f"error: {message}" in done.stderr


def test_every_format_has_its_function():
    assert [row.load().__name__ for row in FORMATS.values()] == [f"export_{name}" for name in FORMATS]
