"""The parts of `tools.check_parity` that are about SinCUT and its StyleGAN2-style networks."""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from cut_tf import networks
from cut_tf.losses.gradient_penalty import r1_penalty
from cut_tf.settings import Settings
from tools.check_parity import torch_weights

# The official generator has no option for them.
_BLOCKS = 6
# Gradients jump where the input of a leaky ReLU changes its sign. So rounding alone changes them, and what is computed
# with the updated weights. There is no other difference: in float64 the recorded step's gradients are reproduced within
# 1e-7 of the largest of each weight, while float32 differs by up to 6e-4. With a smooth leaky ReLU, float32 is within
# 3e-5 of float64.
TOLERANCES = {"grad1": 1e-3, "r1_grad": 4e-4, "loss.G_GAN": 2e-4}


def network_settings(options: dict) -> dict:
    """The settings that a file's options say about StyleGAN2 networks."""
    fields = {}
    if options.get("netG") == "stylegan2":
        fields = {"generator": "stylegan2", "generator_blocks": _BLOCKS,
                  "stylegan2_downsamplings": options.get("stylegan2_G_num_downsampling", 1)}
    if options.get("netD") == "stylegan2":
        fields["discriminator"] = "stylegan2"
    if fields:
        # The official code takes the power of two next to the smaller of both.
        side_px = min(options.get("load_size", 1024), options.get("crop_size", 64))
        side_px = 2 ** int(np.rint(np.log2(side_px)))
        fields.update(stylegan2_size_px=side_px, crop_size_px=side_px, load_size_px=side_px)
    return fields


def check_networks(settings: Settings, arrays: dict, row: object) -> None:
    """Forward passes of generator (`G.*`) and discriminator (`D.*`) with the file's weights.

    Args:
      settings: of the networks.
      arrays: the file's arrays.
      row: the check_parity.Row that takes the comparisons.
    """
    if "G.input" in arrays:
        generator = networks.build_generator(settings)
        torch_weights.load(generator, arrays, "netG.")
        layers = sorted(int(key.split(".")[-1]) for key in arrays if key.startswith("G.feat."))
        pictures, noise = (torch_weights.to_nhwc(arrays[f"G.{name}"]) for name in ("input", "noise"))
        output, kept = generator.translate_with_features(pictures, layers, noise=[noise])
        row.compare("G.output", torch_weights.to_nhwc(arrays["G.output"]), output)
        row.compare("G.output_zero_noise", torch_weights.to_nhwc(arrays["G.output_zero_noise"]),
                    generator(pictures, training=False))
        for layer, feature, again in zip(layers, generator.encode(pictures, layers), kept):
            expected = torch_weights.to_nhwc(arrays[f"G.feat.{layer}"])
            row.compare(f"G.feat.{layer}", expected, feature)
            row.compare(f"G.feat.{layer} of the full pass", expected, again)
    if "D.input" in arrays:
        discriminator = networks.build_discriminator(settings)
        torch_weights.load(discriminator, arrays, "netD.")
        row.compare("D.output", arrays["D.output"], discriminator(torch_weights.to_nhwc(arrays["D.input"])))


def check_r1(options: dict, arrays: dict, row: object) -> None:
    """Value of R1, the scores behind it, and its gradient with respect to the recorded weights."""
    pictures = tf.constant(torch_weights.to_nhwc(arrays["r1_input"]))
    options = {"netD": "stylegan2", "crop_size": pictures.shape[1], **options}
    settings = Settings.of(ndf=options.get("ndf", 1), **network_settings(options))
    discriminator = networks.build_discriminator(settings)
    torch_weights.load(discriminator, arrays, "netD.")
    weight = options.get("lambda_R1", 1.0)
    with tf.GradientTape() as tape:
        scores, penalty = r1_penalty(discriminator, pictures)
        value = weight * penalty
    row.compare("r1_value", arrays["r1_value"], value)
    row.compare("r1_pred", arrays["r1_pred"], scores)
    variables = torch_weights.torch_names(discriminator)
    recorded = [key[len("r1_grad."):] for key in arrays if key.startswith("r1_grad.")]
    gradients = tape.gradient(value, [variables[name] for name in recorded],
                              unconnected_gradients=tf.UnconnectedGradients.ZERO)
    largest = max((float(np.max(np.abs(arrays[f"r1_grad.{name}"]))) for name in recorded), default=1.0)
    for name, gradient in zip(recorded, gradients):
        expected = torch_weights.to_ours(arrays[f"r1_grad.{name}"])
        # R1's gradient with respect to biases is zero, except for rounding.
        row.compare(f"r1_grad.{name}", expected, gradient, TOLERANCES["r1_grad"], None if np.any(expected) else largest)
