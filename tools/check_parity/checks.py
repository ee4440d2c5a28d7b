"""Recomputes recorded numbers of the official code, file by file. `check_parity` prints a line for each."""

from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from cut_tf import compat, networks
from cut_tf.losses import adversarial, patch_nce
from cut_tf.methods.cut import CUT, Draws
from cut_tf.methods.optimizers import Adam, LinearDecay
from cut_tf.methods.sincut import SinCUT
from cut_tf.networks.heads.patch_projector import PatchProjector, normalise, sample_patches
from cut_tf.settings import Settings
from tools.check_parity import stylegan2, torch_weights

RELATIVE_TOLERANCE = 1e-4
# Weights after a step of Adam, whose first update is about lr * sign(gradient), are compared in absolute terms.
WEIGHT_TOLERANCE = 5e-5
# A gradient that is zero by construction is recorded in float64 as rounding noise, far below any real one.
_ZERO_GRADIENT = 1e-12
_STEP_LOSSES = {"D": "loss/discriminator", "D_fake": "loss/discriminator_fake", "D_real": "loss/discriminator_real",
                "G": "loss/generator", "G_GAN": "loss/gan", "NCE": "loss/nce", "NCE_Y": "loss/nce_identity",
                "D_R1": "loss/r1", "idt": "loss/l1_identity"}
_NETWORKS = {"netG": "generator", "netD": "discriminator", "netF": "projector"}


class NotBuilt(Exception):
    """The file has numbers of a network or loss that this package does not have."""


@dataclasses.dataclass
class Row:
    """Errors of one file."""

    name: str
    absolute: float = 0.0
    relative: float = 0.0
    failures: list[str] = dataclasses.field(default_factory=list)
    compared: int = 0
    not_built: str = ""

    def compare(self, key: str, expected: np.ndarray, found: np.ndarray, tolerance: float = RELATIVE_TOLERANCE,
                scale: float | None = None) -> None:
        """Compares two arrays; `scale` replaces the largest magnitude, 1 makes the comparison absolute."""
        expected, found = np.asarray(expected, np.float64), np.asarray(found, np.float64)
        self.compared += 1
        if expected.shape != found.shape:
            self.failures.append(f"{key}: shape {found.shape}, expected {expected.shape}")
            return
        error = float(np.max(np.abs(expected - found))) if expected.size else 0.0
        magnitude = float(np.max(np.abs(expected))) if scale is None else scale
        relative = error / magnitude if magnitude > 0 else error
        self.absolute = max(self.absolute, error)
        if scale is None:
            self.relative = max(self.relative, relative)
        if not relative <= tolerance:
            self.failures.append(f"{key}: error {relative:.1e}, tolerance {tolerance:.0e}")

    @property
    def status(self) -> str:
        if self.failures or not (self.compared or self.not_built):
            return "FAIL"
        return "not built" if self.not_built else "ok"

    def line(self) -> str:
        tolerance = f"{RELATIVE_TOLERANCE:.0e} rel, {WEIGHT_TOLERANCE:.0e} abs weights"
        notes = "; ".join(self.failures[:3]) or self.not_built
        return (f"{self.name:34s} {self.compared:5d} {self.absolute:10.2e} {self.relative:10.2e}  {tolerance}  "
                f"{self.status:9s} {notes}").rstrip()


class RecordingAdam(Adam):
    """Adam that keeps the gradients of its last update, by variable. Runs eagerly only."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.recorded = {}

    def update_step(self, gradient: tf.Tensor, variable: object, learning_rate: tf.Tensor | None = None) -> None:
        self.recorded[id(compat.raw_variable(variable))] = gradient.numpy()
        super().update_step(gradient, variable, learning_rate)


def _network_settings(options: dict) -> Settings:
    net_g, net_d = options.get("netG", "resnet_9blocks"), options.get("netD", "basic")
    match = re.fullmatch(r"resnet_(\d+)blocks", net_g)
    if not (match or net_g == "stylegan2") or net_d not in ("basic", "n_layers", "stylegan2"):
        raise NotBuilt(f"netG {net_g}, netD {net_d}")
    projector = {"mlp_sample": "mlp", "sample": "sample"}.get(options.get("netF", "mlp_sample"))
    if projector is None:
        raise NotBuilt(f"netF {options['netF']}")
    resnet = {"generator_blocks": options.get("n_blocks", int(match.group(1)))} if match else {}
    return Settings.of(**{
        **resnet, "ngf": options.get("ngf", 64), "ndf": options.get("ndf", 64),
        "discriminator_layers": options.get("n_layers_D", 3) if net_d == "n_layers" else 3,
        "generator_norm": options.get("normG", "instance"), "discriminator_norm": options.get("normD", "instance"),
        "antialias_down": not options.get("no_antialias", False),
        "antialias_up": not options.get("no_antialias_up", False), "projector": projector,
        "projector_width": options.get("netF_nc", 256), **stylegan2.network_settings(options)})


def _check_generator(meta: dict, arrays: dict, row: Row) -> None:
    generator = networks.build_generator(_network_settings({**meta, "netG": f"resnet_{meta['n_blocks']}blocks"}))
    torch_weights.load(generator, arrays, "netG.")
    layers = meta["nce_layers"]
    pictures = torch_weights.to_nhwc(arrays["input"])
    output, kept = generator.translate_with_features(pictures, layers)
    row.compare("output", torch_weights.to_nhwc(arrays["output"]), output)
    for layer, feature, again in zip(layers, generator.encode(pictures, layers), kept):
        expected = torch_weights.to_nhwc(arrays[f"feat.{layer}"])
        row.compare(f"feat.{layer}", expected, feature)
        row.compare(f"feat.{layer} of the full pass", expected, again)


def _check_discriminator(meta: dict, arrays: dict, row: Row) -> None:
    options = {**meta, "netD": "n_layers" if meta.get("netD") == "basic" else meta.get("netD")}
    discriminator = networks.build_discriminator(_network_settings(options))
    torch_weights.load(discriminator, arrays, "netD.")
    for key in [key for key in arrays if key == "input" or key.startswith("input_")]:
        expected = torch_weights.to_nhwc(arrays[key.replace("input", "output", 1)])
        row.compare(key.replace("input", "output", 1), expected, discriminator(torch_weights.to_nhwc(arrays[key])))


def _check_patch_sample(meta: dict, arrays: dict, row: Row) -> None:
    features = [torch_weights.to_nhwc(arrays[f"feat.{index}"]) for index in range(meta["n_feats"])]
    projector = PatchProjector([feature.shape[-1] for feature in features], meta["netF_nc"])
    torch_weights.load(projector, arrays, "netF.")
    for index, feature in enumerate(features):
        patches = sample_patches(tf.constant(feature), arrays[f"ids.{index}"])
        for key, value in (("sample", normalise(patches)), ("mlp_sample", projector.embed(index, patches))):
            row.compare(f"{key}.{index}", arrays[f"{key}.{index}"], tf.reshape(value, [-1, value.shape[-1]]))


def _check_patch_nce(meta: dict, arrays: dict, row: Row) -> None:
    for key in arrays:
        match = re.fullmatch(r"(b(\d+)\.\w+)\.allneg([01])\.T([\d.]+)\.loss", key)
        if not match:
            continue
        case, batch, all_negatives, temperature = match.groups()
        shape = (int(batch), -1, meta["dim"])
        query, feature_key = (tf.constant(arrays[f"{case}.{name}"].reshape(shape)) for name in ("feat_q", "feat_k"))
        with tf.GradientTape() as tape:
            tape.watch(query)
            loss = patch_nce.patch_nce(query, feature_key, float(temperature),
                                       "minibatch" if all_negatives == "1" else "internal")
            mean = tf.reduce_mean(loss)
        row.compare(key, arrays[key], tf.reshape(loss, [-1]))
        row.compare(key.replace("loss", "grad_q"), arrays[key.replace("loss", "grad_q")],
                    tf.reshape(tape.gradient(mean, query), [-1, meta["dim"]]))


def _check_gan_loss(meta: dict, arrays: dict, row: Row) -> None:
    for key in arrays:
        match = re.fullmatch(r"(\w+)\.(pred_\w+)\.(real|fake)", key)
        if not match:
            continue
        mode, name, side = match.groups()
        scores = tf.constant(arrays[name])
        with tf.GradientTape() as tape:
            tape.watch(scores)
            values = getattr(adversarial.GAN_LOSSES[mode], side)(scores)
            mean = tf.reduce_mean(values)
        row.compare(key, arrays[key], values if mode == "nonsaturating" else mean)
        row.compare(f"{key}.grad", arrays[f"{key}.grad"], tape.gradient(mean, scores))
    if any(key.startswith("netD.") for key in arrays):
        stylegan2.check_r1(meta, arrays, row)


def _check_learning_rate(meta: dict, arrays: dict, row: Row) -> None:
    for key, (constant, decay, first, base) in meta["schedules"].items():
        schedule = LinearDecay(base, constant, decay, steps_per_epoch=3)
        rates = [schedule(3 * (epoch - 1)).numpy() for epoch in range(first, constant + decay + 1)]
        row.compare(key, arrays[key], np.array(rates), tolerance=1e-6)


def _step_settings(options: dict) -> Settings:
    weight = options["lambda_NCE"]
    minibatch = options["nce_includes_all_negatives_from_minibatch"]
    return _network_settings(options).having(
        gan_mode=options["gan_mode"], gan_weight=options["lambda_GAN"], nce_weight=weight,
        gradient_penalty_weight=0.0, nce_identity_weight=weight if options["nce_idt"] else 0.0,
        r1_weight=options.get("lambda_R1", 0.0), l1_identity_weight=options.get("lambda_identity", 0.0),
        nce_layers=options["nce_layers"], num_patches=options["num_patches"], temperature=options["nce_T"],
        negatives="minibatch" if minibatch else "internal", flip_equivariance=options["flip_equivariance"],
        learning_rate=options["lr"], beta_1=options["beta1"], beta_2=options["beta2"])


def _draws(arrays: dict, prefix: str) -> Draws:
    def ids(domain: str) -> list[np.ndarray]:
        keys = [key for key in arrays if key.startswith(f"{prefix}.ids_{domain}.")]
        return [arrays[f"{prefix}.ids_{domain}.{index}"] for index in range(len(keys))]

    noise = [tf.constant(torch_weights.to_nhwc(arrays[f"{prefix}.noise"]))] if f"{prefix}.noise" in arrays else []
    return Draws(tf.constant(bool(arrays.get(f"{prefix}.flip", 0))), ids("A"), ids("B"), noise)


def _compare_step(method: CUT, arrays: dict, step: int, tolerances: dict, row: Row) -> None:
    """Takes one recorded step and compares its outputs and losses."""
    prefix = f"step{step}"
    batch = {name: tf.constant(torch_weights.to_nhwc(arrays[f"{prefix}.real_{domain}"]))
             for name, domain in (("source", "A"), ("target", "B"))}
    draws = _draws(arrays, prefix)
    seen = [tf.reverse(pictures, [2]) if bool(draws.flip) else pictures for pictures in batch.values()]
    keys = [f"{prefix}.{key}" for key in ("fake_B", "idt_B") if f"{prefix}.{key}" in arrays]
    for key, output in zip(keys, method._translate(seen[:1 + method.uses_identity], draws)[0] if keys else []):
        row.compare(key, torch_weights.to_nhwc(arrays[key]), output)
    terms = method.train_step(batch, draws)
    for theirs, ours in _STEP_LOSSES.items():
        if f"{prefix}.loss.{theirs}" in arrays:
            tolerance = tolerances.get(f"loss.{theirs}", RELATIVE_TOLERANCE)
            row.compare(f"{prefix}.loss.{theirs}", arrays[f"{prefix}.loss.{theirs}"], terms.get(ours, np.nan),
                        tolerance)
    for theirs, ours in (("NCE_per_layer", "nce_loss"), ("NCE_Y_per_layer", "nce_identity_loss")):
        if f"{prefix}.{theirs}" in arrays:
            found = [terms[f"metric/{ours}/{name}"] for name in method.feature_names]
            row.compare(f"{prefix}.{theirs}", arrays[f"{prefix}.{theirs}"], np.array(found))


def _compare_gradients(method: CUT, arrays: dict, still: set[str], tolerances: dict, row: Row) -> None:
    for net, name in _NETWORKS.items():
        keys = [key for key in arrays if key.startswith(f"grad1.{net}.")]
        largest = max([float(np.max(np.abs(arrays[key]))) for key in keys], default=1.0)
        variables = torch_weights.torch_names(method.networks[name])
        for key in keys:
            gradient = method.optimizers_by_network[name].recorded[id(variables[key[len(f"grad1.{net}."):]])]
            zero = key[len("grad1."):] in still or np.max(np.abs(arrays[key])) < _ZERO_GRADIENT
            row.compare(key, torch_weights.to_ours(arrays[key]), gradient, tolerances.get("grad1", RELATIVE_TOLERANCE),
                        scale=largest if zero else None)


def _compare_weights(method: CUT, arrays: dict, prefix: str, still: set[str], row: Row) -> None:
    for net, name in _NETWORKS.items():
        for key, variable in torch_weights.torch_names(method.networks[name]).items():
            if f"{prefix}.{net}.{key}" in arrays and f"{net}.{key}" not in still:
                expected = torch_weights.to_ours(arrays[f"{prefix}.{net}.{key}"])
                row.compare(f"{prefix}.{net}.{key}", expected, variable.numpy(), WEIGHT_TOLERANCE, scale=1.0)


def _check_step(meta: dict, arrays: dict, row: Row) -> None:
    options = meta["options"]
    settings = _step_settings(options)
    method = (SinCUT if settings.generator.generator == "stylegan2" else CUT)(settings)
    tolerances = stylegan2.TOLERANCES if settings.gan.r1_weight else {}
    method.compile(optimizers={
        name: RecordingAdam(options["lr"], options["beta1"], options["beta2"], name=f"{name}_adam")
        for name in _NETWORKS.values()}, run_eagerly=True)
    for net, name in _NETWORKS.items():
        # A file may lack a network; then it has no numbers of it either.
        if any(key.startswith(f"{net}.") for key in arrays):
            torch_weights.load(method.networks[name], arrays, f"{net}.")
    still = set(meta.get("noise", {}).get("zero_gradient_params", []))
    still |= {key[len("grad1."):] for key in arrays
              if key.startswith("grad1.") and np.max(np.abs(arrays[key])) < _ZERO_GRADIENT}
    for step in range(1, meta["n_steps"] + 1):
        _compare_step(method, arrays, step, tolerances, row)
        if step == 1:
            _compare_gradients(method, arrays, still, tolerances, row)
        _compare_weights(method, arrays, f"after{step}", still, row)


def _check_sincut(meta: dict, arrays: dict, row: Row) -> None:
    options = meta["options"]
    stylegan2.check_networks(_network_settings(options), arrays, row)
    if any(key.startswith("step1.") for key in arrays):
        _check_step(meta, arrays, row)


CHECKS = {"resnetG": _check_generator, "nlayerD": _check_discriminator, "patchsample": _check_patch_sample,
          "patchnce": _check_patch_nce, "ganloss": _check_gan_loss, "lr": _check_learning_rate, "step": _check_step,
          "sincut": _check_sincut}


def check_file(path: Path) -> Row:
    """Recomputes one file. A file that cannot be read or loaded makes a failing row, never an exception."""
    row = Row(path.name)
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        # Biases after StyleGAN2's convolutions have the shape (1, C, 1, 1).
        arrays.update({key: value.reshape(-1) for key, value in arrays.items() if key.endswith(".bias")})
        meta = json.loads(str(arrays.pop("meta_json")))
        if meta["kind"] not in CHECKS:
            raise NotBuilt(f"kind {meta['kind']}")
        CHECKS[meta["kind"]](meta, arrays, row)
    except NotBuilt as error:
        row.not_built = str(error)
    except (KeyError, IndexError, TypeError, ValueError, OSError, EOFError, zipfile.BadZipFile,
            tf.errors.OpError) as error:
        row.failures.append(f"{type(error).__name__}: {error}")
    return row
