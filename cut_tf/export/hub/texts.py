"""The card and the metadata files of a hub folder."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import cut_tf
from cut_tf.data import kinds_of
from cut_tf.export.hub.licenses import NOT_STATED, hub_license
from cut_tf.export.hub.measured import Measured
from cut_tf.metrics import METRICS
from cut_tf.settings import Settings

# Kinds of --dataset whose sources are hazy.
_OF_HAZE = {"scenes", "rooms", "haze", "hazed"}


class Facts(NamedTuple):
    """What a card tells.

    Attributes:
      name: of the model.
      settings: of the run.
      step: of the weights.
      weights: how many there are.
      license: of the weights, as stated.
      measured: on typical pictures.
      litert: report of each .tflite file, by the file's name.
      keras_file: name of the .keras file, or empty.
      examples: paths of the pictures.
    """

    name: str
    settings: Settings
    step: int
    weights: int
    license: str
    measured: Measured
    litert: Mapping[str, Mapping[str, Any]]
    keras_file: str
    examples: Sequence[str]


_CARD = """\
# {name}

{what} It is the {generator} generator of cut_tf, {weights:,} weights, trained by the method {method} for
{step:,} steps. It takes pictures of any size from 16 pixels a side, and gives pictures of the same size.

{examples}

## Use

With cut_tf, from this folder:

```bash
python -m cut_tf.translate --saved_model=. --input=photo.jpg --output=results
```

With TensorFlow alone: `1/` is a SavedModel with the signatures `serving_default` (JPEG, PNG, BMP or GIF bytes to PNG
bytes), `image` (uint8 [B, H, W, 3]), `image_float` (float32 in [-1, 1]) and `with_strength` (as `serving_default`, with
`strength` from 0, the input, to 1, the output). TF Serving takes this folder as a model.

```python
import tensorflow as tf

translate = tf.saved_model.load("1").signatures["serving_default"]
png = translate(image_bytes=tf.constant([open("photo.jpg", "rb").read()]))["output_bytes"][0].numpy()
```
{keras}
## Files

| file | what |
|---|---|
{files}

`sha256sum --check SHA256SUMS` checks them all.

## Measured

{measured}

## Made from

Data: `{dataset}`. cut_tf {version}. `training_settings.json` has all settings of the run.

## Limits

It draws what it has learned from its training pictures, and invents where the input does not tell. Look at outputs
before you rely on them. Not for anything that people's safety depends on.

## Licence

{license}
"""
_KERAS = """
As a Keras model, to train it further for example (`pip install` cut_tf, Keras 3):

```python
import cut_tf
import keras

generator = keras.models.load_model("{file}")
```
"""


def card(facts: Facts) -> str:
    """README.md: a YAML head as Hugging Face reads it, and the card."""
    generator, method = facts.settings.generator.generator, facts.settings.train.method
    dehazes = set(kinds_of(facts.settings.data.dataset)) <= _OF_HAZE
    body = _CARD.format(
        name=facts.name, what="Removes haze from photographs." if dehazes else "Translates pictures of one kind into "
        "another.", generator=generator, weights=facts.weights, method=method, step=facts.step,
        examples="\n".join(f"![{_columns(facts.measured)}]({path})" for path in facts.examples),
        keras=_KERAS.format(file=facts.keras_file) if facts.keras_file else "", files="\n".join(_file_rows(facts)),
        measured=_measured(facts.measured), dataset=facts.settings.data.dataset, version=cut_tf.__version__,
        license=license_text(facts.license))
    return f"---\n{_head(facts, dehazes)}---\n{body}"


def _head(facts: Facts, dehazes: bool) -> str:
    """The lines of the YAML head. JSON is YAML, so values are written as JSON."""
    license_ = hub_license(facts.license).hugging_face
    values: dict[str, Any] = {"license": license_}
    if license_ == "other":
        values.update(license_name="see-license-file", license_link="LICENSE")
    values.update({
        "library_name": "keras" if facts.keras_file else "tf-keras", "pipeline_tag": "image-to-image",
        "tags": ["image-to-image", *(["dehazing"] if dehazes else []), "tensorflow", "litert", "tflite", "tf-serving",
                 "cut_tf"],
        "metrics": list(facts.measured.metrics)})
    if facts.measured.metrics:
        values["model-index"] = [{"name": facts.name, "results": [{
            "task": {"type": "image-to-image"},
            "dataset": {"type": "image-folder", "name": facts.measured.source},
            "metrics": [{"type": name, "value": round(output, METRICS[name].digits), "name": METRICS[name].label}
                        for name, (_, output) in facts.measured.metrics.items()]}]}]
    return "".join(f"{name}: {json.dumps(value, ensure_ascii=False)}\n" for name, value in values.items())


def _columns(measured: Measured) -> str:
    return "Input, output and true picture" if measured.pairs else "Input and output"


def _file_rows(facts: Facts) -> list[str]:
    rows = ["| `1/` | SavedModel, any size |"]
    if facts.keras_file:
        rows.append(f"| `{facts.keras_file}` | Keras 3, any size |")
    for name, report in facts.litert.items():
        sides = " x ".join("any" if side is None else str(side) for side in report["input"]["shape"][1:3])
        rows.append(f"| `{name}` | LiteRT, {sides} px, {report['quantize']}, {report['bytes'] / 1e6:.2f} MB, "
                    f"{report['psnr_db']:.1f} dB against the generator |")
    return [*rows, "| `metrics.json` | the numbers below |"]


def _measured(measured: Measured) -> str:
    if not measured.pairs:
        return f"Pictures of `{measured.source}` have no true ones to compare with, so nothing was measured."
    rows = [f"| {METRICS[name].label} | {before:.{METRICS[name].digits}f} | {after:.{METRICS[name].digits}f} |"
            for name, (before, after) in measured.metrics.items()]
    title = f"Means of {measured.pairs} pairs of `{measured.source}`, full-size 8-bit RGB, the SavedModel:"
    return "\n".join([title, "", "| | input | output |", "|---|---:|---:|", *rows])


def license_text(license_: str) -> str:
    """The file LICENSE, one line."""
    stated = "no licence was stated" if license_ == NOT_STATED else license_
    return f"Weights: {stated}. Code that made them (cut_tf): Apache-2.0."


def kaggle_model(facts: Facts, description: str) -> dict[str, Any]:
    """model-metadata.json. Kaggle refuses the placeholder of the owner until somebody fills it in."""
    return {"ownerSlug": "INSERT_OWNER_SLUG_HERE", "title": facts.name, "slug": _slug(facts.name),
            "subtitle": "", "isPrivate": True, "description": description, "publishTime": "", "provenanceSources": ""}


def kaggle_variation(facts: Facts) -> dict[str, Any]:
    """model-instance-metadata.json: this folder as the TensorFlow 2 variation of the model."""
    return {"ownerSlug": "INSERT_OWNER_SLUG_HERE", "modelSlug": _slug(facts.name),
            "instanceSlug": _slug(f"{facts.settings.generator.generator}-{facts.step}"), "framework": "tensorFlow2",
            "overview": f"{facts.settings.generator.generator} generator, {facts.weights:,} weights",
            "usage": "tf.saved_model.load('${PATH}/1').signatures['image'](image=pictures)",
            "licenseName": hub_license(facts.license).kaggle, "fineTunable": bool(facts.keras_file),
            "trainingData": [facts.settings.data.dataset], "modelInstanceType": "Unspecified", "baseModelInstance": "",
            "externalBaseModelUrl": ""}


def _slug(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "-" for letter in text.lower()).strip("-")
