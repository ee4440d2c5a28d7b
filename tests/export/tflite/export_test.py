"""TFLite files against the generator: pixels, gate, metadata, operations, nothing half written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.metrics import peak_signal_noise_ratio

from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.export.options import ExportOptions, Size, parse_sizes
from cut_tf.export.representative import representative_pictures
from cut_tf.methods import build_method
from cut_tf.networks import build_generator
from cut_tf.settings import Settings
from cut_tf.translators.exported import TFLiteTranslator
from cut_tf.translators.run import Translator

pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
pytest.importorskip("ai_edge_quantizer", reason="the extra mobile (ai-edge-quantizer) is not installed")

from cut_tf import compat
from cut_tf.export.tflite import conversion, export, report as tflite_report
from cut_tf.export.tflite.metadata import Description, with_metadata

_MOBILE = {"generator": "mobile", "generator_norm": "none", "method": "paired"}
_SIZE = Size(32, 40)
# --quantize, and the least PSNR in dB that its gate lets through.
_FORMS = (("none", 90), ("float16", 60), ("dynamic", 45), ("int8", 35))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, tiny_settings):
    """Translators of both generators, with weights large enough to be noticed; fitted is the other form of mobile."""
    translators = {}
    for name, settings in (("resnet", tiny_settings()), ("mobile", tiny_settings(**_MOBILE)),
                           ("fitted", tiny_settings(**_MOBILE, mobile_output="fitted", faint_levels=3.0))):
        method = build_method(settings)
        method.compile()
        for weight in method.ema_generator.weights:
            weight.assign(weight * (20.0 if name == "resnet" else 1.5))
        folder = tmp_path_factory.mktemp("tflite") / name
        method.save(folder)
        translators[name] = Translator(folder)
    return translators


def _pictures(count: int, size: Size = _SIZE) -> list[np.ndarray]:
    """Smooth pictures, float32 [1, H, W, 3]."""
    ramps = np.linspace(-1, 1, size.width_px)[None, :, None] * np.linspace(0.2, 1, size.height_px)[:, None, None]
    return [np.clip(ramps * [1.0, -0.5, 0.3] + 0.1 * number, -1, 1)[None].astype(np.float32) for number in range(count)]


def _report(folder: Path) -> dict:
    (path,) = folder.glob("*.json")
    return json.loads(path.read_text())


@pytest.mark.parametrize("generator, quantize, least_db", [
    # Without the mark: the form in the box and the hardest one. tests/contracts has float32 for every generator.
    *(pytest.param("resnet", *form, marks=pytest.mark.slow) for form in _FORMS),
    *(pytest.param(name, *form, marks=[] if form[0] in ("dynamic", "int8") else pytest.mark.slow)
      for name in ("mobile", "fitted") for form in _FORMS)])
def test_every_quantisation_keeps_what_its_gate_says(tmp_path, runs, generator, quantize, least_db):
    options = ExportOptions((_SIZE,), quantize=quantize)
    folder = export.export_tflite(runs[generator], tmp_path / "phone", options)
    assert sorted(path.name for path in folder.iterdir()) == [f"phone_32x40_{quantize}.json",
                                                              f"phone_32x40_{quantize}.tflite"]
    report = _report(folder)
    assert report["psnr_db"] >= least_db == report["least_psnr_db"]
    assert report["xnnpack_partitions"] == 1 and report["operations_outside_xnnpack"] == {}
    assert not any("Flex" in name or "CUSTOM" in name for name in report["operations"])
    assert "MIRROR_PAD" not in report["operations"]
    # The PSNR again by scikit-image, on other pictures: the training scenes.
    scenes = open_dataset(Settings.of(dataset="scenes", preprocess="none", scenes_size_px=40)).source
    runner = TFLiteTranslator(folder / f"phone_32x40_{quantize}.tflite")
    pictures = np.stack([scenes.load(index)[4:36] for index in range(20)]).astype(np.float32) / 127.5 - 1.0
    found = np.concatenate([runner.translate_floats(picture[None]) for picture in pictures])
    expected = np.asarray(runs[generator].generator(pictures, training=False))
    assert peak_signal_noise_ratio(expected, found, data_range=2.0) >= least_db


@pytest.mark.parametrize("quantize", [pytest.param("none", marks=pytest.mark.slow), "int8"])
def test_values_between_0_and_1_are_the_same_pictures(tmp_path, runs, quantize):
    options = ExportOptions((_SIZE,), quantize=quantize, unit_range=True)
    folder = export.export_tflite(runs["mobile"], tmp_path / "phone", options)
    path = folder / f"phone_32x40_{quantize}_unit.tflite"
    report = _report(folder)
    assert report["input"]["values"] == "RGB in [0, 1]: level / 255" and report["operations_outside_xnnpack"] == {}
    # As an app would call it, by the interpreter itself: levels / 255 in, and out.
    picture = np.random.default_rng(0).integers(0, 256, [1, 32, 40, 3]).astype(np.float32) / 255
    runner = TFLiteTranslator(path).interpreter
    runner.allocate_tensors()
    (given,), (taken,) = runner.get_input_details(), runner.get_output_details()
    runner.set_tensor(given["index"], picture)
    runner.invoke()
    found = runner.get_tensor(taken["index"])
    expected = np.asarray(runs["mobile"].generator(2 * picture - 1, training=False)) / 2 + 0.5
    assert peak_signal_noise_ratio(expected, found, data_range=1.0) >= report["least_psnr_db"] - 3
    bytes_in = np.round(picture[0] * 255).astype(np.uint8)
    np.testing.assert_allclose(TFLiteTranslator(path)(bytes_in), np.clip(found[0] * 255, 0, 255), atol=0.51)


def test_compiled_model_draws_what_the_interpreter_draws(tmp_path, runs, monkeypatch):
    """LiteRT's two ways to run a file, which the report compares."""
    from ai_edge_litert.compiled_model import CompiledModel

    folder = export.export_tflite(runs["mobile"], tmp_path / "phone", ExportOptions((_SIZE,), quantize="dynamic"))
    report, path = _report(folder), folder / "phone_32x40_dynamic.tflite"
    assert report["compiled_model"]["largest_difference"] <= 1e-5 and report["runs_on"] == "CPU and GPU"
    compiled, picture = CompiledModel.from_file(str(path)), _pictures(1)[0]
    given, taken = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    given[0].write(picture)
    compiled.run_by_index(0, given, taken)
    found = taken[0].read(picture.size, np.float32).reshape(picture.shape)
    np.testing.assert_allclose(found, TFLiteTranslator(path).translate_floats(picture), atol=1e-5)
    wrong = [TFLiteTranslator(path).translate_floats(picture) + 0.1]
    with pytest.raises(InputError, match="CompiledModel must draw what its interpreter draws, within .*, found 0.1"):
        tflite_report.compiled_model(path.read_bytes(), [picture], wrong)


@pytest.mark.slow
def test_any_size(tmp_path, runs):
    folder = export.export_tflite(runs["mobile"], tmp_path / "phone")
    report = _report(folder)
    assert report["input"]["shape"] == [1, None, None, 3] and report["runs_on"].startswith("CPU only")
    assert report["compiled_model"]["largest_difference"] is None
    runner = TFLiteTranslator(folder / "phone_any_none.tflite")
    assert runner.size_px is None
    for height, width in ((32, 40), (17, 61), (32, 40), (64, 16)):
        picture = np.random.default_rng(height).integers(0, 256, [height, width, 3], np.uint8)
        assert np.abs(runner(picture).astype(int) - runs["mobile"](picture)).max() <= 1


def test_a_fixed_size_that_is_no_multiple_of_the_networks_steps(tmp_path, runs):
    folder = export.export_tflite(runs["mobile"], tmp_path / "phone", ExportOptions((Size(21, 37),)))
    picture = np.random.default_rng(0).integers(0, 256, [21, 37, 3], np.uint8)
    found = TFLiteTranslator(folder / "phone_21x37_none.tflite")(picture)
    assert np.abs(found.astype(int) - runs["mobile"](picture)).max() <= 1


@pytest.mark.slow
def test_several_sizes_have_a_file_each(tmp_path, runs):
    folder = export.export_tflite(runs["mobile"], tmp_path / "phone", ExportOptions((Size(21, 37), Size(16, 16))))
    assert {path.name for path in folder.glob("*.tflite")} == {"phone_21x37_none.tflite", "phone_16x16_none.tflite"}


def test_a_wrong_size_is_an_error_and_resized_only_when_asked(tmp_path, runs):
    folder = export.export_tflite(runs["mobile"], tmp_path / "phone", ExportOptions((_SIZE,)))
    path, picture = folder / "phone_32x40_none.tflite", np.full([64, 80, 3], 90, np.uint8)
    with pytest.raises(InputError, match="frame.png: .* pictures of 40x32 px only, found 80x64; give --size=train"):
        TFLiteTranslator(path)(picture, "frame.png")
    with pytest.raises(ValueError, match=r"pictures must have \(32, 40\) px, found \(64, 80\)"):
        TFLiteTranslator(path).translate_floats(np.zeros([1, 64, 80, 3], np.float32))
    resized = TFLiteTranslator(path, resize=True)(picture)
    expected = np.asarray(Image.fromarray(runs["mobile"](np.full([32, 40, 3], 90, np.uint8))).resize(
        (80, 64), Image.Resampling.BICUBIC))
    assert np.abs(resized.astype(int) - expected).max() <= 2


def test_the_gate_refuses_with_numbers_and_layers_and_writes_nothing(tmp_path, runs, monkeypatch):
    strict = conversion.APPLIED["dynamic"]._replace(least_psnr_db=120.0)
    monkeypatch.setitem(conversion.APPLIED, "dynamic", strict)
    options = ExportOptions((_SIZE,), quantize="dynamic")
    with pytest.raises(InputError, match=r"must be at least 120 dB on 20 pictures of scenes, found [0-9.]+ dB; most is "
                                         r"lost in .*\([0-9.-]+ dB\).*--allow_quality_loss"):
        export.export_tflite(runs["mobile"], tmp_path / "phone", options)
    assert not (tmp_path / "phone").exists()


@pytest.mark.slow
def test_the_gate_opens_when_asked_to(tmp_path, runs, monkeypatch):
    monkeypatch.setitem(conversion.APPLIED, "dynamic", conversion.APPLIED["dynamic"]._replace(least_psnr_db=120.0))
    options = ExportOptions((_SIZE,), quantize="dynamic", allow_quality_loss=True)
    assert _report(export.export_tflite(runs["mobile"], tmp_path / "phone", options))["psnr_db"] < 120


@pytest.mark.slow
def test_a_full_disk_leaves_nothing_behind(tmp_path, runs, monkeypatch):
    """The third of four files cannot be written."""
    written = []

    def fails_at_the_third(path, data):
        if len(written) == 2:
            raise InputError(f"{path}: must be writable, found: No space left on device")
        written.append(path)
        path.write_bytes(data)

    monkeypatch.setattr(export, "replace_file", fails_at_the_third)
    with pytest.raises(InputError, match="--output=.*phone cannot be written: .*No space left on device"):
        export.export_tflite(runs["mobile"], tmp_path / "phone", ExportOptions((_SIZE, Size(16, 16))))
    assert len(written) == 2 and list((tmp_path / "phone").iterdir()) == []


def test_the_generator_for_phones_keeps_its_sizes():
    """1.5 MB in float32, 0.5 MB in 8 bits, one part for XNNPACK."""
    generator = build_generator(Settings.of(generator="mobile", generator_norm="none", generator_blocks=4, ngf=16))
    plain, dynamic = conversion.convert(generator, Size(64, 64), "dynamic", _pictures(2, Size(64, 64)))
    assert len(plain) <= 1.5e6 and len(dynamic) <= 0.5e6
    for model in (plain, dynamic):
        assert tflite_report.operations(model)["xnnpack_partitions"] == 1


def test_gpu_delegate_where_the_analyzer_can_tell(runs):
    """TensorFlow 2.15 knows: fixed sizes are fine, a size that is known only at run time is not."""
    fixed, _ = conversion.convert(runs["mobile"].generator, _SIZE, "none", _pictures(2))
    any_size, _ = conversion.convert(runs["mobile"].generator, None, "none", _pictures(2))
    expected = [True, False] if compat.ANALYZER_KNOWS_GPUS else [None, None]
    assert [tflite_report.gpu_compatibility(model)["compatible"] for model in (fixed, any_size)] == expected


def test_files_that_are_there_are_not_replaced(tmp_path, runs):
    (tmp_path / "phone").mkdir()
    (tmp_path / "phone" / "phone_32x40_none.json").write_text("mine")
    with pytest.raises(InputError, match="phone_32x40_none.json is there already and is not replaced"):
        export.export_tflite(runs["mobile"], tmp_path / "phone", ExportOptions((_SIZE,)))
    assert [path.read_text() for path in (tmp_path / "phone").iterdir()] == ["mine"]


def test_representative_pictures_are_cut_from_the_middle_or_enlarged(tmp_path):
    big = np.zeros([50, 70, 3], np.uint8)
    big[10:40, 10:60] = 255
    Image.fromarray(big).save(tmp_path / "a.png")
    Image.new("RGB", (20, 20), (255, 0, 0)).save(tmp_path / "b.png")
    first, second = representative_pictures(tmp_path, Size(30, 50))
    np.testing.assert_array_equal(first, np.ones([1, 30, 50, 3]))
    np.testing.assert_array_equal(second[0, :, :, 0], np.ones([30, 50]))
    (tmp_path / "b.png").unlink()
    with pytest.raises(InputError, match="--representative must name two pictures or more, found 1 in"):
        representative_pictures(tmp_path, Size(30, 50))


def test_int8_keeps_the_gate_on_pictures_with_twice_the_range_of_those_that_it_was_made_from(runs):
    generator, pictures = runs["mobile"].generator, _pictures(10)
    _, model = conversion.convert(generator, _SIZE, "int8", [0.5 * picture for picture in pictures])
    runner = TFLiteTranslator(model)
    found = [runner.translate_floats(picture) for picture in pictures]
    assert conversion.psnr_db([generator(picture, training=False).numpy() for picture in pictures], found) >= 35


@pytest.mark.parametrize("bright", [(0, 9), (0,)], ids=["a judge is bright", "judges are dim"])
def test_ranges_of_int8_suit_the_worst_of_the_pictures_that_judge(runs, bright):
    """Means of ranges cut single bright pictures off; extremes have coarse steps for dim ones. The last three judge."""
    generator = runs["mobile"].generator
    pictures = [(1.0 if index in bright else 0.1) * picture for index, picture in enumerate(_pictures(10))]
    plain, model = conversion.convert(generator, _SIZE, "int8", pictures)
    judged = conversion._StaticInt8(plain, pictures)
    narrow, wide = judged.ranges
    for tensor in wide:
        assert np.all(wide[tensor]["min"] <= narrow[tensor]["min"])
        assert np.all(wide[tensor]["max"] >= narrow[tensor]["max"])

    def worst_db(file: bytes) -> float:
        outputs = [(generator(picture, training=False).numpy(), TFLiteTranslator(file).translate_floats(picture))
                   for picture in pictures[-3:]]
        return min(peak_signal_noise_ratio(*pair, data_range=2.0) for pair in outputs)

    of_each = [worst_db(judged.quantized(conversion._most_in_int8(judged, ranges), ranges)) for ranges in judged.ranges]
    assert abs(of_each[0] - of_each[1]) > 0.3
    assert worst_db(model) == pytest.approx(max(of_each), abs=0.01)


def test_metadata_can_be_read_by_field_numbers(runs):
    """By flatbuffers' own reader and the numbers of metadata_schema.fbs."""
    from ai_edge_litert import schema_py_generated as schema
    from flatbuffers import encode, number_types
    from flatbuffers.table import Table

    def child(table: Table, number: int) -> Table:
        place = table.Offset(4 + 2 * number)
        return Table(table.Bytes, table.Indirect(table.Pos + place))

    def text(table: Table, number: int) -> str:
        return table.String(table.Offset(4 + 2 * number) + table.Pos).decode()

    def first(table: Table, number: int) -> Table:
        return Table(table.Bytes, table.Indirect(table.Vector(table.Offset(4 + 2 * number))))

    def floats(table: Table, number: int) -> list[float]:
        place = table.Offset(4 + 2 * number)
        return [table.Get(number_types.Float32Flags, table.Vector(place) + 4 * index)
                for index in range(table.VectorLen(place))]

    model, _ = conversion.convert(runs["mobile"].generator, _SIZE, "none", _pictures(2))
    described = with_metadata(model, Description("name", "what it does", "7", "CC0"))
    assert described[4:8] == b"TFL3"
    parsed = schema.ModelT.InitFromPackedBuf(described, 0)
    (entry,) = [entry for entry in parsed.metadata if entry.name == b"TFLITE_METADATA"]
    data = bytes(bytearray(parsed.buffers[entry.buffer].data))
    assert data[4:8] == b"M001"
    root = Table(bytearray(data), encode.Get(number_types.UOffsetTFlags.packer_type, data, 0))
    assert [text(root, number) for number in (0, 1, 2, 5)] == ["name", "what it does", "7", "CC0"]
    for side in (2, 3):
        tensor = first(first(root, 3), side)
        assert text(tensor, 0) == "image"
        normalization = child(first(tensor, 4), 1)
        assert (floats(normalization, 0), floats(normalization, 1)) == ([127.5], [127.5])
        assert (floats(child(tensor, 5), 0), floats(child(tensor, 5), 1)) == ([1.0] * 3, [-1.0] * 3)
    np.testing.assert_array_equal(TFLiteTranslator(described).translate_floats(_pictures(1)[0]),
                                  TFLiteTranslator(model).translate_floats(_pictures(1)[0]))


def test_costly_layers_names_the_one_that_was_changed(runs):
    """A model with one kernel disturbed, against itself: what comes after it differs, what comes before does not."""
    generator = runs["mobile"].generator
    plain, _ = conversion.convert(generator, _SIZE, "none", _pictures(2))
    kernel = generator.head.convolution.kernel
    kept = np.asarray(kernel)
    kernel.assign(kept * 1.5)
    changed, _ = conversion.convert(generator, _SIZE, "none", _pictures(2))
    kernel.assign(kept)
    assert tflite_report.costly_layers(plain, plain, _pictures(1)[0]) == []
    named = tflite_report.costly_layers(plain, changed, _pictures(1)[0])
    assert named and not any("down" in name or "block" in name for name in named)


@pytest.mark.parametrize("text, sizes", [("", ()), ("256x256", ((256, 256),)),
                                         ("16x20, 480x640", ((16, 20), (480, 640)))])
def test_sizes(text, sizes):
    assert parse_sizes(text) == sizes


@pytest.mark.parametrize("text, message", [
    ("256", "--size must be height x width in pixels, such as 256x256,480x640, found '256'"),
    ("15x256", "--size must have sides of at least 16 px, found 15x256"),
    ("32x32,32x32", "--size must name every size once, found '32x32,32x32'"),
])
def test_bad_sizes(text, message):
    with pytest.raises(InputError) as error:
        parse_sizes(text)
    assert str(error.value) == message
