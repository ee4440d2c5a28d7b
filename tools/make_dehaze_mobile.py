"""Makes saved_models/dehaze_mobile: python -m tools.make_dehaze_mobile --photographs=DIR --val_photographs=DIR

With --model=dehaze the other model, the gated U-Net. Trains with the flagfile of the model's name, or continues or uses
an existing run. Exports the SavedModel and its .tflite twins, measures them on the hazed --val_photographs and on the
test scenes, and writes the model card.
With --measure_only it prints the card's tables for the model in --output, and writes nothing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import replace_file
from cut_tf.data import open_dataset
from cut_tf.data.domain import Domain
from cut_tf.export.options import ExportOptions, Size
from cut_tf.metrics import METRICS
from cut_tf.settings import Settings

if TYPE_CHECKING:
    from cut_tf.translators.run import Translator

_PHOTOGRAPHS = flags.DEFINE_string("photographs", None, "folder of clear photographs to train on", required=True)
_VAL = flags.DEFINE_string("val_photographs", None, "folder of clear photographs to measure on", required=True)
_MODEL = flags.DEFINE_enum("model", "dehaze_mobile", ["dehaze_mobile", "dehaze"], "which model, and its flagfile")
_RUN = flags.DEFINE_string("run", "", "folder of the run; runs/MODEL if empty")
_OUTPUT = flags.DEFINE_string("output", "", "folder of the model; saved_models/MODEL if empty")
_SOURCE = flags.DEFINE_string("photographs_source", "not stated", "where the photographs come from, for the card")
_LICENSE = flags.DEFINE_string("license", "not stated", "licence of the weights, for card and metadata")
_MEASURE_ONLY = flags.DEFINE_bool("measure_only", False, "print the card's tables for the model in --output, and stop")
_EXTRA = flags.DEFINE_multi_string("train_flag", [], "more flags for the training, such as --train_flag=--ngf=8")

_SIZE = Size(256, 256)
_TWINS = (("float16", (_SIZE,)), ("int8", (_SIZE,)), ("dynamic", (_SIZE,)), ("float16", ()))
_CARD = """# {name}

Removes haze from photographs and video frames: {network} of cut_tf, {weights:,} weights, `{version}/` as a
SavedModel for TF Serving and `cut_tf.translate`, and as .tflite files for phones (RGB in [-1, 1], input and output of
one size).

## Made by

    {command}

at commit {commit}: {steps:,} steps, method `{method}`, seed {seed}.

## Data

Rendered scenes and rooms of cut_tf (`--dataset=scenes+rooms`), and {photographs} clear photographs (source: {source})
that get haze by the scattering model with made-up depths while they are read. Sensor noise of {noise:g} levels is
added to the input.

## Measured

Full-size pictures, the SavedModel, means and standard deviations:

| test pictures | | PSNR, dB | SSIM |
|---|---|---:|---:|
{rows}

| file | MB | PSNR against the generator, dB |
|---|---:|---:|
{files}

These tables again: `python -m tools.make_dehaze_mobile --model={name} --measure_only --photographs=DIR
--val_photographs=DIR`. Speed and noise: `python -m tools.benchmark tflite --run={run}`. Other hazes and depths, skies,
other models: `python -m tools.evaluate_dehazing`. `{version}/` has warm-up requests of 256x256 px for TF Serving.

## Failures

{failures}

## Licence

{license}
"""
_NETWORKS = {"dehaze_mobile": "the light generator", "dehaze": "the gated U-Net"}
_FAILURES = {
    "dehaze_mobile": """\
Where the haze is so dense that nothing is left of the scene, clouds or dark patches are invented. Thin haze at dusk and
pictures without haze become darker and more contrasted than they should be; sand and fog of strong colour keep that
colour; skies get halos along roofs and branches. Depths of training photographs were made up: what is measured here is
haze of that kind, not real haze. Not for anything that people's safety depends on.""",
    "dehaze": """\
Where the haze is so dense that nothing is left of the scene, some of it stays, or grey patches are invented. Smooth
white skies can get blue or cloudy patches. Fog of strong colour keeps that colour. Depths of training photographs were
made up: what is measured here is haze of that kind, not real haze. Not for anything that people's safety depends
on."""}


def make(output: Path) -> None:
    """Everything of the module's docstring. Raises InputError if a step fails."""
    from cut_tf.export.saved_model.export import export_saved_model
    from cut_tf.export.tflite.export import check_free, export_tflite
    from cut_tf.translators.run import Translator

    hazed = f"hazed:{_PHOTOGRAPHS.value},{_VAL.value}"
    twins = [ExportOptions(sizes, quantize=quantize, representative=hazed, license=_LICENSE.value)
             for quantize, sizes in _TWINS]
    for options in twins:
        check_free(output, options)
    commit = _commit()
    dataset = f"scenes+rooms+{hazed}"
    train = ["-m", "cut_tf.train", f"--flagfile={_MODEL.value}", f"--dataset={dataset}", f"--run={_run()}",
             *_EXTRA.value]
    if subprocess.run([sys.executable, *train]).returncode:
        raise InputError(f"--run={_run()}: the training failed")
    translator = Translator(_run())
    saved_model = export_saved_model(translator, output, ExportOptions((_SIZE,)))
    for options in twins:
        export_tflite(translator, output, options)
    card = _card(translator, saved_model, ["python", *train], commit)
    replace_file(output / "MODEL_CARD.md", card.encode())


def _run() -> str:
    return _RUN.value or f"runs/{_MODEL.value}"


def _output() -> Path:
    return Path(_OUTPUT.value or f"saved_models/{_MODEL.value}")


def _commit() -> str:
    """The commit of this code, or "unknown"."""
    try:
        done = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, cwd=Path(__file__).parent)
    except OSError:  # no git here
        return "unknown"
    return done.stdout.strip() or "unknown"


def _card(translator: Translator, saved_model: Path, command: Sequence[str], commit: str) -> str:
    settings, tests = translator.settings, _tests()
    rows, files = _tables(saved_model, tests)
    return _CARD.format(weights=translator.generator.count_params(), command=" ".join(command), commit=commit,
                        steps=translator.step, method=settings.train.method, seed=settings.train.seed,
                        photographs=len(open_dataset(tests["hazed photographs"]).pairs[0]) //
                        tests["hazed photographs"].hazed.haze_variants, noise=settings.regression.source_noise_levels,
                        rows=rows, files=files, name=_MODEL.value, network=_NETWORKS[_MODEL.value],
                        failures=_FAILURES[_MODEL.value], run=_run(), version=saved_model.name,
                        license=_LICENSE.value, source=_SOURCE.value)


def _tests() -> dict[str, Settings]:
    """The test pairs by the name that the card gives them."""
    return {"scenes": Settings.of(dataset="scenes", preprocess="none", scenes_size_px=_SIZE.height_px),
            "hazed photographs": Settings.of(dataset=f"hazed:{_PHOTOGRAPHS.value},{_VAL.value}", preprocess="none")}


def _tables(saved_model: Path, tests: dict[str, Settings]) -> tuple[str, str]:
    """Rows of the card's two tables: pictures, and files."""
    rows = []
    for name, data_settings in tests.items():
        data = open_dataset(data_settings)
        rows += _rows(f"{name} ({len(data.test_source)})", data.test_source, data.test_target, saved_model)
    files = []
    for path in sorted(saved_model.parent.glob("*.json")):
        report = json.loads(path.read_text(encoding="utf-8"))
        files.append(f"| {path.with_suffix('.tflite').name} | {report['bytes'] / 1e6:.2f} | {report['psnr_db']:.1f} |")
    return "\n".join(rows), "\n".join(files)


def _rows(name: str, sources: Domain, targets: Domain, saved_model: Path) -> list[str]:
    """Lines of the table: the hazy pictures, and what the model makes of them."""
    from cut_tf.translators.exported import SavedModelTranslator

    translate = SavedModelTranslator(saved_model)
    values = {"input": [], "output": []}
    progress = command_line.progress_bar(len(sources), "picture")
    for index in range(len(sources)):
        source, target = sources.load(index), targets.load(index)
        for kind, picture in (("input", source), ("output", translate(source))):
            values[kind].append([METRICS[metric](picture[None], target[None])[0] for metric in ("psnr", "ssim")])
        progress.add(1)
    lines = []
    for kind, found in values.items():
        (psnr, ssim), (psnr_std, ssim_std) = np.mean(found, axis=0), np.std(found, axis=0)
        lines.append(f"| {name} | {kind} | {psnr:.2f} ({psnr_std:.2f}) | {ssim:.3f} ({ssim_std:.3f}) |")
    return lines


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 if data, training or disk are not as they must be (the reason is printed on stderr)."""
    command_line.log_to_stdout()
    command_line.start_tensorflow()
    from cut_tf.translators.exported import newest_version

    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        if _MEASURE_ONLY.value:
            print("\n\n".join(_tables(newest_version(_output(), "--output"), _tests())))
            return 0
        make(_output())
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"written: {_output()}")
    return 0


if __name__ == "__main__":
    command_line.run(main)
