"""ODCR: orthogonal decoupling contrastive regularization for unpaired dehazing (Wang et al., CVPR 2024).

This is a reconstruction from the paper's equations, since no code of its authors is public. Our own choices are
settings (`wpnce_roles`, `wpnce_scale`, `input_layer`, ...) or are named in the docstrings of the parts.
"""

from __future__ import annotations

from typing import NamedTuple

import keras
import tensorflow as tf

from cut_tf.common.errors import InputError
from cut_tf.losses import weighted_patch_nce as wpnce
from cut_tf.methods import base, cut, replicas
from cut_tf.methods.optimizers import Adam
from cut_tf.networks.heads.feature_classifier import CLEAR, HAZY, Evidence, FeatureClassifier
from cut_tf.networks.heads.orthogonal_projector import OrthogonalPatchProjector
from cut_tf.networks.heads.patch_projector import normalise
from cut_tf.settings import Settings
from cut_tf.settings.methods import ODCRSettings

# Purpose of the random draws of clear patches, one per layer, after those of cut.py.
_FIRST_CLEAR_IDS = 300
# Offset of the classifier's seed, after those of unpaired.py and cut.py.
_CLASSIFIER_SEED = 3


class Compared(NamedTuple):
    """What the output's patches are compared with in one layer.

    Attributes:
      hazy: [B, P, C], embeddings of the hazy input's patches at the same places.
      clear: [B, P', C], embeddings of clear images' patches.
      evidence: what the classifier finds in the two.
      content: [B, P, C], embeddings of the hazy input without the pictures' own statistics, for the decoupled form;
        else None.
    """

    hazy: tf.Tensor
    clear: tf.Tensor
    evidence: tuple[Evidence, Evidence]
    content: tf.Tensor | None = None

    def weights(self, scale: str) -> tuple[tf.Tensor, tf.Tensor]:
        """w_h of the hazy images and w_c of the clear ones, [B, C] each (eq. 9, 10)."""
        hazy, clear = (wpnce.channel_weights(self.evidence[part].contributions[:, part], scale)
                       for part in (HAZY, CLEAR))
        return hazy, clear

    def loss(self, query: tf.Tensor, content_query: tf.Tensor | None, odcr: ODCRSettings, temperature: float,
             early: tf.Tensor | bool = False) -> tf.Tensor:
        """Weighted PatchNCE of each of the output's patches.

        Args:
          query: [B, P, C], embeddings of the output's patches.
          content_query: [B, P, C], the same without the pictures' own statistics, for the decoupled form; else None.
          odcr: the reading of the equations.
          temperature: tau.
          early: whether the classifier's weights do not count yet; then it is plain PatchNCE, and clear patches are
            negatives in the split form.

        Returns:
          [B, P].
        """
        hazy_weights, clear_weights = self.weights(odcr.wpnce_scale)
        neutral = tf.ones_like if odcr.wpnce_roles == "printed" else tf.zeros_like
        hazy_weights = tf.where(early, neutral(hazy_weights), hazy_weights)
        clear_weights = tf.where(early, tf.zeros_like(clear_weights), clear_weights)
        vectors = [normalise(query), normalise(self.hazy), normalise(self.clear) if odcr.wpnce_clear_patches else None]
        common = (hazy_weights, clear_weights, temperature, odcr.wpnce_roles, odcr.wpnce_scale)
        if odcr.wpnce_form == wpnce.DECOUPLED:
            content = [normalise(content_query), normalise(self.content)]
            return wpnce.decoupled_patch_nce(*content, *vectors, *common, odcr.wpnce_haze_weight)
        return wpnce.weighted_patch_nce(*vectors, *common, odcr.wpnce_form, odcr.wpnce_haze_weight)


class ODCR(cut.CUT):
    """CUT with orthonormal projectors, a feature classifier, and PatchNCE weighted by the classifier's evidence.

    L = gan_weight L_GAN + nce_weight L_WPNCE + l1_identity_weight mean |G(clear) - clear| (eq. 15), or CUT's PatchNCE
    identity (nce_identity_weight). The classifier minimises L_CE (eq. 8) with an optimizer of its own. The other
    networks get only weights from it, no gradients. Source images are hazy, target images clear.
    """

    progress_terms = ("loss/generator", "loss/discriminator", "loss/nce", "metric/classifier_accuracy")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.channel_weights = {
            f"{kind}_weights/{feature}": replicas.step_variable(tf.zeros([width]), tf.float32)
            for kind in ("hazy", "clear") for feature, width in zip(self.feature_names,
                                                                    self.networks["projector"].widths)}

    def compared_layers(self) -> tuple[int, ...]:
        """--nce_layers, without the RGB input if it is excluded."""
        layers = super().compared_layers()
        return tuple(layer for layer in layers if layer) if self.settings.odcr.input_layer == "exclude" else layers

    def _build_networks(self) -> dict[str, keras.Model]:
        nce = self.settings.patch_nce
        for name, allowed in (("negatives", "internal"), ("num_negatives", 0)):
            if getattr(nce, name) != allowed:
                raise InputError(f"--{name} must be {allowed} with --method=odcr, found {getattr(nce, name)}")
        if not self.compared_layers():
            raise InputError(f"--nce_layers must name a layer besides the input with --input_layer=exclude, found "
                             f"{nce.nce_layers}")
        built = super()._build_networks()
        seed = self.settings.train.seed * base.SEEDS_PER_RUN + _CLASSIFIER_SEED
        built["classifier"] = FeatureClassifier(built["projector"].widths, self.settings.odcr.classifier_units, seed)
        return built

    def _new_projector(self, channels: list[int], seed: int) -> keras.Model:
        return OrthogonalPatchProjector(channels, self.settings.projector.projector_width, seed)

    def compile(self, learning_rate: object = None, optimizers: dict | None = None, run_eagerly: bool = False) -> None:
        """As TranslationMethod.compile; the classifier has a constant learning rate of its own."""
        with self.distribute_strategy.scope():
            own = {"classifier": Adam(self.settings.odcr.classifier_learning_rate, 0.9, 0.999, name="classifier_adam")}
        super().compile(learning_rate, {**own, **(optimizers or {})}, run_eagerly)

    @property
    def uses_identity(self) -> bool:
        """Clear images are always encoded: their patches are compared with the output's."""
        return True

    def _contrast(self, outputs: list[tf.Tensor], keys: list[list[tf.Tensor]], flip: tf.Tensor,
                  draws: cut.Draws | None) -> dict[str, tf.Tensor]:
        """Weighted PatchNCE of the output, PatchNCE identity if wanted, and a step of the classifier."""
        nce, projector = self.settings.patch_nce, self.networks["projector"]
        count = 2 if nce.nce_identity_weight else 1
        queries = [[self._mirror(feature, flip) for feature in part] for part in self._encode(outputs[:count])]
        hazy_ids = self._draw_ids(cut.FIRST_IDS["nce"], keys[0]) if draws is None else draws.source_ids
        clear_ids = self._draw_ids(_FIRST_CLEAR_IDS, keys[1], self.settings.odcr.wpnce_clear_patches)
        projector.move_centres([(keys[0], hazy_ids), (keys[1], clear_ids)], _mean_over_replicas)
        hazy = [tf.stop_gradient(embedding) for embedding in projector(keys[0], hazy_ids)]
        clear = [tf.stop_gradient(embedding) for embedding in projector(keys[1], clear_ids)]
        terms, evidence = self._update_classifier(hazy, clear)
        losses = []
        contents = self._contents(keys[0], hazy_ids)
        for layer, query in enumerate(zip(projector(queries[0], hazy_ids), self._contents(queries[0], hazy_ids))):
            compared = Compared(hazy[layer], clear[layer], evidence[layer], contents[layer])
            losses.append(self._weighted_nce(layer, query, compared))
            terms[f"metric/nce_loss/{self.feature_names[layer]}"] = losses[-1]
        terms["loss/nce"] = nce.nce_weight * tf.add_n(losses) / len(losses)
        terms["metric/orthogonality_error"] = projector.orthogonality_error()
        if nce.nce_identity_weight:
            ids = None if draws is None else draws.target_ids
            terms.update(self._nce_terms("nce_identity", nce.nce_identity_weight, queries[1], keys[1], ids))
        return terms

    def _embed(self, features: list[tf.Tensor], patch_ids: list[tf.Tensor]) -> list[tf.Tensor]:
        return [normalise(embedding) for embedding in self.networks["projector"](features, patch_ids)]

    def _contents(self, features: list[tf.Tensor], ids: list[tf.Tensor]) -> list[tf.Tensor | None]:
        """Embeddings of the decoupled form's content question, per layer."""
        if self.settings.odcr.wpnce_form != wpnce.DECOUPLED:
            return [None] * len(features)
        return self.networks["projector"].embed_content(features, ids)

    def _weighted_nce(self, layer: int, query: tuple[tf.Tensor, tf.Tensor | None], compared: Compared) -> tf.Tensor:
        """Mean weighted PatchNCE of one layer. Stores the channel weights for TensorBoard."""
        odcr = self.settings.odcr
        for kind, weights in zip(("hazy", "clear"), compared.weights(odcr.wpnce_scale)):
            self.channel_weights[f"{kind}_weights/{self.feature_names[layer]}"].assign(tf.reduce_mean(weights, 0))
        early = self.step < odcr.classifier_warmup_steps
        return tf.reduce_mean(compared.loss(*query, odcr, self.settings.patch_nce.temperature, early))

    def _update_classifier(self, hazy: list[tf.Tensor],
                           clear: list[tf.Tensor]) -> tuple[dict[str, tf.Tensor], list[tuple[Evidence, Evidence]]]:
        """A step of the classifier on embeddings that it does not change, and what it found in them before."""
        classifier = self.networks["classifier"]
        for head, one, other in zip(classifier.heads, hazy, clear):
            head.move_statistics(one, other, _mean_over_replicas)
        with tf.GradientTape() as tape:
            found = list(zip(classifier(hazy), classifier(clear)))
            losses = [(tf.reduce_mean(wpnce.classifier_loss(one.logits, True))
                       + tf.reduce_mean(wpnce.classifier_loss(other.logits, False))) / 2.0 for one, other in found]
            total = tf.add_n(losses) / len(losses)
            scaled = self.scale(total)
        terms = {"loss/classifier": total}
        accuracies = []
        for name, (one, other) in zip(self.feature_names, found):
            right = [one.logits[:, HAZY] > one.logits[:, CLEAR], other.logits[:, CLEAR] > other.logits[:, HAZY]]
            accuracies.append(tf.reduce_mean(tf.cast(tf.concat(right, 0), tf.float32)))
            terms[f"metric/classifier_accuracy/{name}"] = accuracies[-1]
        terms["metric/classifier_accuracy"] = tf.add_n(accuracies) / len(accuracies)
        terms.update(self.update_networks(["classifier"], tape, scaled))
        return terms, found

    def histograms(self) -> dict[str, tf.Variable]:
        """Channel weights of the last step, mean over its images, by kind and feature."""
        return self.channel_weights


def _mean_over_replicas(value: tf.Tensor) -> tf.Tensor:
    return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, value)
