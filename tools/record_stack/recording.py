"""The record of `record_stack`: a tiny run, its export, its next step, and numbers of single layers."""

from __future__ import annotations

from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.common.errors import InputError
from cut_tf.data.image_files import write_png
from cut_tf.export.options import DEFAULTS
from cut_tf.export.saved_model.export import save_version
from cut_tf.layers.convolution import Convolution
from cut_tf.layers.norm import InstanceNorm
from cut_tf.methods import build_method
from cut_tf.methods.base import TranslationMethod
from cut_tf.settings import Settings
from cut_tf.translators.run import Translator

STEPS = 2
_PICTURE_PX = (34, 45)
_BATCH, _CROP_PX = 2, 32
# Factor of the first weights, which are so small that every output would be grey.
_GAIN = 8.0


def recorded_settings() -> Settings:
    """A tiny CUT with every kind of state that differs between the stacks."""
    return Settings.of(ngf=4, ndf=4, generator_blocks=1, discriminator_layers=2, projector_width=8,
                       discriminator_norm="spectral", nce_layers="0,4,8", num_patches=16, ema_decay=0.5,
                       learning_rate=1e-3)


def batch(step: int) -> dict[str, tf.Tensor]:
    """float32 [B, H, W, 3] in [-1, 1] for source and target: smooth noise, the same everywhere."""
    rng = np.random.default_rng(step)
    shape = [_BATCH, _CROP_PX // 4, _CROP_PX // 4, 3]
    return {name: tf.constant(np.kron(rng.uniform(-1, 1, shape), np.ones([1, 4, 4, 1])), tf.float32)
            for name in ("source", "target")}


def take_step(method: TranslationMethod, step: int) -> dict[str, float]:
    """Terms of one training step on the recorded batch."""
    return {name: float(value) for name, value in tf.function(method.train_step)(batch(step)).items()}


def layer_numbers() -> dict[str, np.ndarray]:
    """Instance norm, its gradient, and spectral norm, on fixed inputs."""
    rng = np.random.default_rng(7)
    features = tf.constant(rng.normal(2.0, 3.0, [2, 9, 7, 5]), tf.float32)
    slope = tf.constant(rng.normal(size=[2, 9, 7, 5]), tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(features)
        normed = InstanceNorm()(features)
        total = tf.reduce_sum(normed * slope)
    convolution = Convolution(6, 4, seed=3, padding_px=1, spectral_norm=True, name="conv")
    model = keras.Sequential([convolution])
    output = convolution(features[..., :3])
    weights = compat.named_weights(model)
    weights["conv/kernel"].assign(rng.normal(size=weights["conv/kernel"].shape))
    for _ in range(5):
        output = convolution(features[..., :3], training=True)
    return {"instance_norm": normed.numpy(), "instance_norm_gradient": tape.gradient(total, features).numpy(),
            "spectral_kernel": weights["conv/kernel"].numpy(), "spectral_vector": weights["conv/vector_u"].numpy(),
            "spectral_output": output.numpy()}


def record(folder: Path) -> None:
    """Writes the record. Raises InputError if the folder is there already or the disk refuses."""
    if folder.exists():
        raise InputError(f"--output must be a new folder, found {folder} there already")
    method = build_method(recorded_settings())
    method.compile()
    for network in (method.generator, method.ema_generator):
        for weight in network.weights:
            weight.assign(weight * _GAIN)
    for step in range(STEPS):
        take_step(method, step)
    method.save(folder / "run")
    translator = Translator(folder / "run")
    save_version(translator, folder / "saved_model", DEFAULTS)
    picture = np.random.default_rng(3).integers(0, 256, [*_PICTURE_PX, 3], np.uint8)
    write_png(folder / "picture.png", picture)
    write_png(folder / "translated.png", translator(picture))
    terms = {f"term:{name}": np.float32(value) for name, value in take_step(method, STEPS).items()}
    np.savez_compressed(folder / "numbers.npz", **layer_numbers(), **terms)
    versions = {"tensorflow": tf.__version__, "keras": keras.__version__}
    (folder / "versions.txt").write_text("".join(f"{name} {value}\n" for name, value in versions.items()),
                                         encoding="utf-8")
