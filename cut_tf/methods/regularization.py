"""Contrastive regularization (AECR-Net, CVPR 2021, eq. 4-5), a term that flags add to any method's generator loss."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.losses.contrastive_ratio import channel_means, layer_ratios, weighted_sum
from cut_tf.networks.vgg_features import Features, depth_weights, hed_features, random_features, vgg19_features
from cut_tf.settings import ContrastiveSettings, Settings
from cut_tf.translators.run import Translator

# (output, positive, negative, same_scene) to named scalar terms.
Regularize = Callable[[tf.Tensor, tf.Tensor, tf.Tensor, bool], dict[str, tf.Tensor]]


def build_regularization(settings: Settings) -> Regularize:
    """The regularization of the settings: `ContrastiveRegularization.terms`, or a function without terms for weight 0.

    It is a function, since Keras would count the object's frozen networks among those of the method.

    Raises:
      InputError: if more pictures are asked for than a batch has, or features that do not exist.
    """
    return ContrastiveRegularization(settings).terms if settings.contrastive.contrastive_weight else _no_terms


def _no_terms(output: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor, same_scene: bool) -> dict[str, tf.Tensor]:
    del output, positive, negative, same_scene
    return {}


class ContrastiveRegularization:
    """contrastive_weight * sum_i w_i D(G_i(positives), G_i(output)) / D(G_i(negatives), G_i(output)).

    Positives are clear pictures: the target at the same place in the batch, and if there are several, the next ones of
    the global batch. Negatives are hazy pictures: the source, and the next ones of the batch, as in the paper.

    Methods that know the clear picture of each source compare the maps place by place, which is the paper's
    regularization. For unpaired methods the positive shows another scene. There the means of each channel over the
    picture are compared, for positives and negatives alike. That is our extension, not the paper's.

    The ratio grows without limit as the output approaches the hazy picture. So a generator that starts as the identity
    (`--generator=mobile`) starts with losses and gradients far larger than those of the other terms.
    """

    def __init__(self, settings: Settings) -> None:
        asked, batch_size = settings.contrastive, settings.data.batch_size
        for name in ("contrastive_positives", "contrastive_negatives"):
            if not 1 <= getattr(asked, name) <= batch_size:
                raise InputError(f"--{name} must be at least 1 and at most --batch_size ({batch_size}), from whose "
                                 f"pictures they come, found {getattr(asked, name)}")
        self._asked = asked
        # float16 might overflow in VGG's features.
        self._features = load_features(asked, tf.bfloat16 if settings.devices.precision == "bfloat16" else tf.float32)

    def terms(self, output: tf.Tensor, positive: tf.Tensor, negative: tf.Tensor,
              same_scene: bool) -> dict[str, tf.Tensor]:
        """The weighted loss of a batch. Gradients reach `output` only.

        Args:
          output: [B, H, W, 3] in [-1, 1], of this replica.
          positive: clear pictures, the same, or of another size without `same_scene`.
          negative: hazy pictures, of the size of `output`.
          same_scene: whether all three show the same scene.

        Returns:
          `loss/contrastive`, weighted, and `metric/contrastive/<feature>`, the ratio (or the distance) of each feature.
        """
        asked = self._asked
        positives = self._several(positive, asked.contrastive_positives, same_scene)
        negatives = [] if asked.contrastive_form == "positives" else self._several(
            negative, asked.contrastive_negatives, same_scene)
        ratios = [tf.reduce_mean(ratio) for ratio in
                  layer_ratios(self._maps(output, same_scene), positives, negatives)]
        terms = {f"metric/contrastive/{name}": ratio for name, ratio in zip(self._features.names, ratios)}
        return {"loss/contrastive": asked.contrastive_weight * weighted_sum(ratios, self._features.weights), **terms}

    def _maps(self, pictures: tf.Tensor, same_scene: bool) -> Sequence[tf.Tensor]:
        maps = self._features.encode(pictures)
        return maps if same_scene else channel_means(maps)

    def _several(self, pictures: tf.Tensor, count: int, same_scene: bool) -> list[Sequence[tf.Tensor]]:
        """Feature maps of `count` pictures for each output: the one at its place and those after it in the batch."""
        maps, size = self._maps(_with_next(pictures, count - 1), same_scene), tf.shape(pictures)[0]
        return [[feature[place:place + size] for feature in maps] for place in range(count)]


def _with_next(pictures: tf.Tensor, more: int) -> tf.Tensor:
    """[B, H, W, 3] of this replica to [B + more, H, W, 3], with the next ones of the global batch, in cyclic order."""
    if not more:
        return pictures
    context = tf.distribute.get_replica_context()
    everything, size = context.all_gather(pictures, axis=0), tf.shape(pictures)[0]
    places = context.replica_id_in_sync_group * size + tf.range(size + more)
    return tf.gather(everything, places % tf.shape(everything)[0])


def load_features(asked: ContrastiveSettings, dtype: tf.DType) -> Features:
    """The features of --contrastive_features, frozen.

    Raises:
      InputError: if the flag names none, the file of weights cannot be loaded, or the run has no encoder.
    """
    kind, colon, _ = asked.contrastive_features.partition(":")
    if kind not in FEATURES or bool(colon) != (kind == "run"):
        raise InputError("--contrastive_features must be vgg19, hed, random or run:DIR, "
                         f"found {asked.contrastive_features!r}")
    if asked.vgg_weights and kind not in ("vgg19", "hed"):
        raise InputError(f"--vgg_weights must be empty unless --contrastive_features is vgg19 or hed, found "
                         f"{asked.vgg_weights!r} with --contrastive_features={asked.contrastive_features}")
    return FEATURES[kind](asked, dtype)


def run_features(run: str) -> Features:
    """The encoder of a trained generator: the run's --nce_layers, as far as its generator has them, without the input.

    Weights are those of `depth_weights`, and the arithmetic is that of the run's --precision.

    Raises:
      InputError: if the folder is no run with weights, or its generator has none of these layers.
    """
    flag = f"--contrastive_features=run:{run}"
    try:
        translator = Translator(run)
    except InputError as error:
        raise InputError(f"{flag}: {error}") from error
    generator, asked = translator.generator, translator.settings.patch_nce.layers()
    layers = [layer for layer in asked if layer and generator.has_layer(layer)]
    if not layers:
        raise InputError(f"{flag} must be a run whose --nce_layers names stages of its generator besides the input, "
                         f"found {translator.settings.patch_nce.nce_layers} with "
                         f"--generator={translator.settings.generator.generator}")
    generator.trainable = False
    return Features(lambda pictures: generator.encode(pictures, layers, training=False),
                    generator.feature_names(layers), depth_weights(len(layers)))


# Features by the part of --contrastive_features before the colon.
FEATURES: dict[str, Callable[[ContrastiveSettings, tf.DType], Features]] = {
    "vgg19": lambda asked, dtype: vgg19_features(asked.vgg_weights, dtype),
    "hed": lambda asked, dtype: hed_features(asked.vgg_weights, dtype),
    "random": lambda _, dtype: random_features(dtype),
    "run": lambda asked, _: run_features(asked.contrastive_features.partition(":")[2]),
}
