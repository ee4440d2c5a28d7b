"""CUT: contrastive unpaired translation (Park et al., ECCV 2020). FastCUT is a flagfile of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from cut_tf.losses import patch_nce
from cut_tf.methods import base, replicas, unpaired
from cut_tf.networks.heads.patch_projector import PatchProjector, draw_patch_ids
from cut_tf.settings import Settings

# Purposes of random draws, see TranslationMethod.draw_seed. Patch ids take one number per layer, so that each term has
# a hundred of its own: 100 and 200 here, 300 in odcr.py. unpaired.py has 1 to 99, and sincut.py's noise begins at 400.
_FLIP = 0
FIRST_IDS = {"nce": 100, "nce_identity": 200}
# Offset of the projector's seed, after those of unpaired.py.
_PROJECTOR_SEED = 2
# The values of --negatives that use keys of earlier images.
_EXTERNAL_LOGITS = {"external": patch_nce.external_logits, "internal_external": patch_nce.internal_external_logits}


class Draws(NamedTuple):
    """The random draws of a step. Passed from outside only to reproduce recorded steps."""

    flip: tf.Tensor  # bool scalar: mirror the generator's input
    source_ids: list[tf.Tensor]  # int32 [P_l] per layer, for source and output
    target_ids: list[tf.Tensor]  # int32 [P_l] per layer, for target and its own translation
    noise: Sequence[tf.Tensor] = ()  # SinCUT: per doubling of the resolution, for the joint batch


class KeyQueue(tf.Module):
    """Keys of earlier steps' images, per layer, for external negatives (eq. 4).

    The paper fills a long queue with a slowly moving encoder. Here the queue is as long as the list of a query's
    internal negatives. One or two images fill it, so keys are at most a few steps old, and no moving encoder is needed.
    """

    def __init__(self, length: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.keys = [replicas.step_variable(tf.zeros([length, width]), tf.float32) for width in widths]
        self.present = [replicas.step_variable(tf.zeros([length], tf.bool), tf.bool) for _ in widths]

    def push(self, layer: int, keys: tf.Tensor) -> None:
        """Adds keys [N, C] of this step, gathered over all replicas, at the front."""
        length = self.keys[layer].shape[0]
        self.keys[layer].assign(tf.concat([keys, self.keys[layer]], 0)[:length])
        present = tf.concat([tf.ones([tf.shape(keys)[0]], tf.bool), self.present[layer]], 0)
        self.present[layer].assign(present[:length])


class CUT(unpaired.UnpairedMethod):
    """Generator, discriminator and patch projector; loss of eq. 5.

    L = gan_weight L_GAN + nce_weight L_PatchNCE(source, output) + nce_identity_weight L_PatchNCE(target, G(target)),
    both PatchNCE terms halved if there are two, plus l1_identity_weight mean |G(target) - target|, plus contrastive
    regularization if asked for.

    Order of a step, as in the official code: the generator runs; the discriminator is updated on its detached output;
    generator and projector are updated with the new discriminator.
    """

    progress_terms = ("loss/generator", "loss/discriminator", "loss/nce")

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.layers_compared = self.compared_layers()
        self.feature_names = self.generator.feature_names(self.layers_compared)
        self.queues = {}
        if settings.patch_nce.negatives in _EXTERNAL_LOGITS:
            length = max(settings.patch_nce.num_patches - 1, 1)
            for name in ("nce", "nce_identity"):
                self.queues[name] = KeyQueue(length, self.networks["projector"].widths)

    def _build_networks(self) -> dict[str, keras.Model]:
        seed = self.settings.train.seed * base.SEEDS_PER_RUN
        generator = self._new_generator("generator")
        layers = self.compared_layers()
        generator.check_layers(layers)
        projector = self._new_projector(generator.feature_channels(layers), seed + _PROJECTOR_SEED)
        return {"generator": generator, "discriminator": self._new_discriminator(), "projector": projector}

    def compared_layers(self) -> tuple[int, ...]:
        """Stages of the generator whose features are compared."""
        return self.settings.patch_nce.layers()

    def _new_projector(self, channels: list[int], seed: int) -> keras.Model:
        projector = self.settings.projector
        return PatchProjector(channels, projector.projector_width, seed, use_mlp=projector.projector == "mlp")

    def _embed(self, features: list[tf.Tensor], patch_ids: list[tf.Tensor]) -> list[tf.Tensor]:
        """Unit vectors [B, P_l, C] of the patches with these ids, per layer."""
        return self.networks["projector"](features, patch_ids)

    @property
    def uses_identity(self) -> bool:
        """Whether target images are translated too."""
        return self.settings.patch_nce.nce_identity_weight > 0 or self.settings.identity.l1_identity_weight > 0

    def _take_step(self, batch: dict[str, tf.Tensor], draws: Draws | None = None) -> dict[str, tf.Tensor]:
        """As `train_step`. `loss/generator` is the sum of the generator's weighted terms."""
        source, target = batch["source"], batch["target"]
        flip = self._draw_flip() if draws is None else draws.flip
        real = [source, target] if self.uses_identity else [source]
        with tf.GradientTape() as tape:
            seen = [self._mirror(pictures, flip) for pictures in real]
            outputs, features = self._translate(seen, draws)
            with tape.stop_recording():
                terms = self._update_discriminator(target, tf.stop_gradient(outputs[0]))
                keys = self._key_features(real, features, flip)
            terms.update(self._generator_terms(outputs, seen))
            terms.update(self._contrast(outputs, keys, flip, draws))
            terms.update(self.regularize(outputs[0], target, seen[0], same_scene=False))
            terms["loss/generator"] = self._total(terms)
            scaled = self.scale(terms["loss/generator"])
        terms.update(self.update_networks(["generator", "projector"], tape, scaled))
        return terms

    def _draw_flip(self) -> tf.Tensor:
        if not self.settings.mirroring.flip_equivariance:
            return tf.constant(False)
        return tf.random.stateless_uniform([], self.draw_seed(_FLIP), alg="philox") < 0.5

    def _mirror(self, pictures: tf.Tensor, flip: tf.Tensor) -> tf.Tensor:
        """Mirrors [B, H, W, C] left-right if `flip`. Without --flip_equivariance it adds nothing to the graph."""
        if not self.settings.mirroring.flip_equivariance:
            return pictures
        return tf.cond(flip, lambda: tf.reverse(pictures, [2]), lambda: pictures)

    def _translate(self, parts: list[tf.Tensor],
                   draws: Draws | None) -> tuple[list[tf.Tensor], list[list[tf.Tensor]]]:
        """Outputs and features of source and, with identity, target."""
        if not self._one_pass_for(parts):
            results = [self._full_pass([part], draws, first_part) for first_part, part in enumerate(parts)]
            return [output for output, _ in results], [features for _, features in results]
        output, features = self._full_pass(parts, draws)
        return tf.split(output, len(parts)), _split_features(features, len(parts))

    def _full_pass(self, parts: list[tf.Tensor], draws: Draws | None,
                   first_part: int = 0) -> tuple[tf.Tensor, list[tf.Tensor]]:
        """Output and features of some of the step's parts, counted from `first_part`, as one batch."""
        del draws, first_part
        return self.generator.translate_with_features(tf.concat(parts, 0), self.layers_compared, training=True)

    def _encode(self, parts: list[tf.Tensor]) -> list[list[tf.Tensor]]:
        """Features of every part. With batch norm each part is encoded by itself, as in the official code."""
        if not self._one_pass_for(parts) or self.generator.mixes_batch:
            return [self.generator.encode(part, self.layers_compared, training=True) for part in parts]
        return _split_features(self.generator.encode(tf.concat(parts, 0), self.layers_compared, training=True),
                               len(parts))

    def _key_features(self, real: list[tf.Tensor], features: list[list[tf.Tensor]],
                      flip: tf.Tensor) -> list[list[tf.Tensor]]:
        """Features of the real images, never mirrored.

        The generator has just encoded the real images, and keys carry no gradient, so those features are used again.
        They cannot be in a mirrored step, nor with batch norm, whose statistics depend on the whole batch.
        """
        if self.generator.mixes_batch:
            return self._encode(real)
        if not self.settings.mirroring.flip_equivariance:
            return features
        return tf.cond(flip, lambda: self._encode(real), lambda: features)

    def _generator_terms(self, outputs: list[tf.Tensor], seen: list[tf.Tensor]) -> dict[str, tf.Tensor]:
        terms, weight = {"loss/gan": self._gan_term(outputs[0])}, self.settings.identity.l1_identity_weight
        if weight:
            terms["loss/l1_identity"] = weight * tf.reduce_mean(tf.abs(outputs[1] - seen[1]))
        return terms

    def _contrast(self, outputs: list[tf.Tensor], keys: list[list[tf.Tensor]], flip: tf.Tensor,
                  draws: Draws | None) -> dict[str, tf.Tensor]:
        """Both PatchNCE terms, weighted, and their values and accuracies per layer."""
        nce = self.settings.patch_nce
        if not (nce.nce_weight or nce.nce_identity_weight):
            return {"loss/nce": tf.constant(0.0)}
        names = [("nce", nce.nce_weight, draws and draws.source_ids)]
        if nce.nce_identity_weight:
            names.append(("nce_identity", nce.nce_identity_weight, draws and draws.target_ids))
        terms = {}
        for (name, weight, ids), queries, part_keys in zip(names, self._encode(outputs[:len(names)]), keys):
            queries = [self._mirror(feature, flip) for feature in queries]
            terms.update(self._nce_terms(name, weight, queries, part_keys, ids))
        return terms

    def _nce_terms(self, name: str, weight: float, query_features: list[tf.Tensor], key_features: list[tf.Tensor],
                   patch_ids: list[tf.Tensor] | None) -> dict[str, tf.Tensor]:
        if patch_ids is None:
            patch_ids = self._draw_ids(FIRST_IDS[name], key_features)
        queries = self._embed(query_features, patch_ids)
        keys = [tf.stop_gradient(key) for key in self._embed(key_features, patch_ids)]
        terms, losses = {}, []
        for layer, (query, key) in enumerate(zip(queries, keys)):
            logits = self._logits(name, layer, query, key)
            losses.append(tf.reduce_mean(patch_nce.loss_from_logits(logits)))
            feature = self.feature_names[layer]
            terms[f"metric/{name}_loss/{feature}"] = losses[-1]
            terms[f"metric/{name}_accuracy/{feature}"] = patch_nce.accuracy_from_logits(logits)
        terms[f"loss/{name}"] = weight * tf.add_n(losses) / len(losses)
        return terms

    def _draw_ids(self, first_purpose: int, features: list[tf.Tensor], num_patches: int = 0) -> list[tf.Tensor]:
        """Patch ids per layer; `num_patches` of the settings if 0."""
        num_patches = num_patches or self.settings.patch_nce.num_patches
        return [draw_patch_ids(tf.shape(feature)[1] * tf.shape(feature)[2], num_patches,
                               self.draw_seed(first_purpose + index)) for index, feature in enumerate(features)]

    def _logits(self, name: str, layer: int, query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
        """[B, P, 1 + N] with the negatives of --negatives. Negatives from other images come from all replicas."""
        nce = self.settings.patch_nce
        if nce.negatives == "internal":
            return patch_nce.internal_logits(query, key, nce.temperature, nce.num_negatives)
        own = tf.reshape(key, [-1, key.shape[-1]])
        pool = tf.distribute.get_replica_context().all_gather(own, axis=0)
        if nce.negatives == "minibatch":
            first = replicas.replica_index() * tf.shape(own)[0]
            return patch_nce.minibatch_logits(query, key, nce.temperature, pool, first)
        queue = self.queues[name]
        logits = _EXTERNAL_LOGITS[nce.negatives](query, key, queue.keys[layer], queue.present[layer],
                                                 nce.temperature)
        queue.push(layer, pool)
        return logits

    def _total(self, terms: dict[str, tf.Tensor]) -> tf.Tensor:
        if "loss/nce_identity" in terms:
            contrast = (terms["loss/nce"] + terms["loss/nce_identity"]) / 2.0
        else:
            contrast = terms["loss/nce"]
        return terms["loss/gan"] + contrast + terms.get("loss/l1_identity", 0.0) + terms.get("loss/contrastive", 0.0)

    def state(self) -> dict[str, tf.Variable]:
        state = super().state()
        for name, queue in self.queues.items():
            for layer, (keys, present) in enumerate(zip(queue.keys, queue.present)):
                state.update({f"queue/{name}/{layer}/keys": keys, f"queue/{name}/{layer}/present": present})
        return state


def _split_features(features: list[tf.Tensor], parts: int) -> list[list[tf.Tensor]]:
    """Features of a joint batch [parts * B, ...] per layer to features per part and layer."""
    return [list(part) for part in zip(*(tf.split(feature, parts) for feature in features))]
