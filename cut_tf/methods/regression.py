"""Methods that learn a known output: from pairs (`paired`), or from a teacher's pictures (`distill`).

They are supervised baselines of the unpaired methods, and train small generators for phones. L = mean |G(x) - y|, as
the reconstruction terms of pix2pix (Isola et al., CVPR 2017, eq. 3) and AECR-Net (Wu et al., CVPR 2021, eq. 4, first
term).
"""

from __future__ import annotations

import keras
import tensorflow as tf

from cut_tf import networks
from cut_tf.common import images
from cut_tf.methods import base, replicas
from cut_tf.settings import Settings
from cut_tf.translators.run import Translator

_NOISE = 0


class Regression(base.TranslationMethod):
    """A generator alone, with the L1 distance between its output and a target that the subclass names.

    Flags add contrastive regularization.
    """

    progress_terms = ("loss/generator",)

    def _build_networks(self) -> dict[str, keras.Model]:
        return {"generator": self._new_generator("generator")}

    def _new_generator(self, name: str) -> keras.Model:
        seed = self.settings.train.seed * base.SEEDS_PER_RUN
        return networks.build_generator(self.settings, seed, self.policy, name)

    def _target(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """The desired output for batch["source"], [B, H, W, 3] in [-1, 1]."""
        raise NotImplementedError

    def _take_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """As `train_step`.

        Terms are `loss/l1`, the mean absolute difference, those of contrastive regularization if it is on (its negative
        is the source without noise), and `loss/generator`, the sum.
        """
        source, target = batch["source"], self._target(batch)
        with tf.GradientTape() as tape:
            output = self.generator(self._with_noise(source), training=True)
            terms = {"loss/l1": tf.reduce_mean(tf.abs(output - target)),
                     **self.regularize(output, target, batch["source"], same_scene=True)}
            terms["loss/generator"] = terms["loss/l1"] + terms.get("loss/contrastive", 0.0)
            scaled = self.scale(terms["loss/generator"])
        terms.update(self.update_networks(["generator"], tape, scaled))
        return terms

    def _with_noise(self, source: tf.Tensor) -> tf.Tensor:
        """Adds the sensor noise of --source_noise_levels: this replica's part of a draw for the global batch."""
        levels = self.settings.regression.source_noise_levels
        if not levels:
            return source
        size, shape = tf.shape(source)[0], tf.shape(source)
        noise = tf.random.stateless_normal(tf.concat([[size * replicas.replica_count()], shape[1:]], 0),
                                           self.draw_seed(_NOISE), alg="philox")
        first = replicas.replica_index() * size
        return tf.clip_by_value(source + noise[first:first + size] * (levels / images.HALF_RANGE), -1.0, 1.0)


class Paired(Regression):
    """Learns from training pairs: y is the clear picture of the same scene."""

    paired = True

    def _target(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return batch["target"]


class Distill(Regression):
    """Learns from the outputs of a trained generator, y = teacher(x). It needs no target images.

    The teacher is the run of --teacher, at its newest checkpoint or at that of DIR@STEP.

    Raises:
      InputError: if --teacher is no run with weights.
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        teacher = Translator(settings.distill.teacher).generator
        # A function, since Keras would count the teacher's weights among those of this run.
        self._teach = lambda source: teacher(source, training=False)

    def _target(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        return tf.stop_gradient(tf.cast(self._teach(batch["source"]), tf.float32))
