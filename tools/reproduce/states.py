"""What each term of CUT's and ODCR's loss asks of the output picture, in a state of a run."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.checkpoints import CheckpointStore
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.data import open_dataset
from cut_tf.losses import adversarial, patch_nce
from cut_tf.losses.weighted_patch_nce import DECOUPLED, FORMS, ROLES, SCALES
from cut_tf.methods import build_method
from cut_tf.methods.cut import CUT
from cut_tf.methods.odcr import ODCR, Compared
from cut_tf.networks.heads.feature_classifier import CLEAR, HAZY
from cut_tf.networks.heads.orthogonal_projector import OrthogonalPatchProjector
from cut_tf.networks.heads.patch_projector import draw_patch_ids, normalise
from cut_tf.settings import Settings
from cut_tf.settings.methods import ODCRSettings
from tools.reproduce import directions

PICTURES = 32
ALL_LAYERS = "all"
GAN, PATCH_NCE, L1_IDENTITY = "GAN", "PatchNCE", "L1 identity"
CONTENT = "PatchNCE without statistics"
# Of states of CUT, with ODCR's projector as it is before training.
ORTHONORMAL = "PatchNCE, orthonormal projector"
ORTHONORMAL_CONTENT, HAZE_QUESTION = "the same without statistics", "haze question, orthonormal projector"
# Length of the step of the weights whose effect on the outputs is seen, as a part of the weights' own length.
_WEIGHT_STEP = 1e-3
_CLEAR_SEED = 1


class Batch(NamedTuple):
    """Pictures that a state is asked about, float32 [B, H, W, 3] in [-1, 1]: `clear` are of other scenes."""

    hazy: tf.Tensor
    truth: tf.Tensor
    clear: tf.Tensor


def test_batch(settings: Settings) -> Batch:
    """The middles, as large as the crops of training, of the first test pairs and of clear training pictures."""
    data, side_px = open_dataset(settings), settings.data.crop_size_px
    count = min(PICTURES, len(data.test_source), len(data.target))
    if settings.data.preprocess == "none":
        raise InputError("--set=preprocess must leave crops of one size with --suite=alignment, found none")

    def middles(domain: Any) -> tf.Tensor:
        return tf.stack([images.from_bytes(_middle(domain.load(index), side_px)) for index in range(count)])

    return Batch(*(middles(domain) for domain in (data.test_source, data.test_target, data.target)))


def _middle(picture: np.ndarray, side_px: int) -> np.ndarray:
    height, width = picture.shape[:2]
    if min(height, width) < side_px:
        raise InputError(f"--set=crop_size_px must be at most the sides of the test pictures with --suite=alignment, "
                         f"found {side_px} and a picture of {width}x{height} px")
    top, left = (height - side_px) // 2, (width - side_px) // 2
    return picture[top:top + side_px, left:left + side_px]


def measure(run: Path) -> list[dict[str, Any]]:
    """The table of each kept checkpoint of a run of CUT or ODCR, in the order of the steps.

    Returns:
      Per checkpoint `step`, and what the methods of `State` return: `output`, `terms`, `classifier`.

    Raises:
      InputError: if it is a run of another method, or the test pictures are too small.
    """
    settings = Settings.from_json((run / "settings.json").read_text(encoding="utf-8"), str(run / "settings.json"))
    method = build_method(settings)
    if not isinstance(method, CUT):
        raise InputError(f"--rows must be runs of CUT or ODCR with --suite=alignment, found {settings.train.method}")
    method.compile()
    store, batch = CheckpointStore(run, keep=1, writes=False), test_batch(settings)
    found = []
    for step in store.steps():
        store.restore(method.state(), step)
        state = State(method, batch)
        found.append({"step": step, "output": state.output_of_pictures(), "terms": list(state.terms()),
                      "classifier": state.classifier()})
    return found


class State:
    """A method in a state, and pictures that it translates. Nothing of the method is changed.

    Args:
      method: CUT or ODCR, with the weights of the state.
      batch: pictures.

    Attributes:
      batch: the pictures.
      output: [B, H, W, 3], what becomes of the hazy pictures.
      ids: int32 [P_l] per layer, the patches of outputs and hazy pictures that are compared.
    """

    def __init__(self, method: CUT, batch: Batch) -> None:
        self._method, self.batch, self._settings = method, batch, method.settings
        self._is_odcr = isinstance(method, ODCR)
        self._pictures = [np.asarray(pictures, np.float64) for pictures in batch]
        num_patches = self._settings.patch_nce.num_patches
        features = self._encoded(batch.hazy)
        self.ids = self._draw_ids(features, num_patches, 0)
        of_clear = self._encoded(batch.clear)
        clear_ids = self._draw_ids(of_clear, self._settings.odcr.wpnce_clear_patches or num_patches, _CLEAR_SEED)
        projector = method.networks["projector"]
        hazy, clear = projector(features, self.ids), projector(of_clear, clear_ids)
        evidence: list = [None] * len(hazy)
        if self._is_odcr:
            evidence = list(zip(method.networks["classifier"](hazy), method.networks["classifier"](clear)))
        self._orthonormal = None if self._is_odcr else self._first_orthonormal(features, of_clear, clear_ids)
        self._compared = [Compared(*layer) for layer in zip(hazy, clear, evidence, self._contents(features))]
        self.output = method.generator(batch.hazy, training=True)

    def _encoded(self, pictures: tf.Tensor) -> list[tf.Tensor]:
        return self._method.generator.encode(pictures, self._method.layers_compared, training=True)

    def _draw_ids(self, features: list[tf.Tensor], num_patches: int, seed: int) -> list[tf.Tensor]:
        return [draw_patch_ids(tf.shape(feature)[1] * tf.shape(feature)[2], num_patches,
                               tf.constant([seed, layer], tf.int32)) for layer, feature in enumerate(features)]

    def _contents(self, features: list[tf.Tensor]) -> list[tf.Tensor | None]:
        """Embeddings of the decoupled form's content question, per layer."""
        if not self._is_odcr:
            return [None] * len(features)
        return self._method.networks["projector"].embed_content(features, self.ids)

    def _first_orthonormal(self, features: list[tf.Tensor], of_clear: list[tf.Tensor],
                           clear_ids: list[tf.Tensor]) -> Callable[[list[tf.Tensor]], dict[str, list[tf.Tensor]]]:
        """What ODCR's projector would ask with its first weights and the running means of these pictures.

        Returns:
          Function of the outputs' features that gives [B, P] per layer for each term, the input's layer left out.
        """
        layers = [index for index, stage in enumerate(self._method.layers_compared) if stage]
        ids, temperature = [self.ids[index] for index in layers], self._settings.patch_nce.temperature

        def chosen(values: list[tf.Tensor]) -> list[tf.Tensor]:
            return [values[index] for index in layers]

        projector = OrthogonalPatchProjector([features[index].shape[-1] for index in layers],
                                             self._settings.projector.projector_width)
        projector.move_centres([(chosen(features), ids), (chosen(of_clear), chosen(clear_ids))], tf.identity)
        keys, contents = projector(chosen(features), ids), projector.embed_content(chosen(features), ids)
        clears = projector(chosen(of_clear), chosen(clear_ids))

        def plain(query: tf.Tensor, key: tf.Tensor) -> tf.Tensor:
            return patch_nce.loss_from_logits(patch_nce.internal_logits(normalise(query), normalise(key), temperature))

        def haze(query: tf.Tensor, key: tf.Tensor, clear: tf.Tensor) -> tf.Tensor:
            """The haze question of the split form with all weights 1."""
            near_hazy, near_clear = (_log_mean_similarity(query, patches, temperature) for patches in (key, clear))
            return tf.nn.softplus(near_hazy - near_clear)

        def losses(of_output: list[tf.Tensor]) -> dict[str, list[tf.Tensor]]:
            queries, own = (embed(chosen(of_output), ids) for embed in (projector, projector.embed_content))
            return {ORTHONORMAL: [plain(*layer) for layer in zip(queries, keys)],
                    ORTHONORMAL_CONTENT: [plain(*layer) for layer in zip(own, contents)],
                    HAZE_QUESTION: [haze(*layer) for layer in zip(queries, keys, clears)]}

        return losses

    # ---- terms ------------------------------------------------------------------------------------------------------

    def losses(self, output: tf.Tensor) -> dict[tuple[str, str], tf.Tensor]:
        """(term, layer) to its weighted value, for outputs: what training minimises, layer by layer and in all."""
        settings, method = self._settings, self._method
        scores = method.networks["discriminator"](output, training=True)
        losses = {(GAN, ALL_LAYERS): settings.gan.gan_weight * adversarial.adversarial_generator_loss(
            settings.gan.gan_mode, scores)}
        features = self._encoded(output)
        queries = list(zip(method.networks["projector"](features, self.ids), self._contents(features), self._compared))
        for name, loss in self._contrasts():
            layers = [settings.patch_nce.nce_weight / len(queries) * tf.reduce_mean(loss(*values))
                      for values in queries]
            losses.update({(name, feature): layer for feature, layer in zip(method.feature_names, layers)})
            losses[name, ALL_LAYERS] = tf.add_n(layers)
        for name, values in (self._orthonormal(features) if self._orthonormal else {}).items():
            losses[name, ALL_LAYERS] = settings.patch_nce.nce_weight * tf.reduce_mean(tf.stack(
                [tf.reduce_mean(layer) for layer in values]))
        return losses

    def _contrasts(self) -> Iterator[tuple[str, Callable[..., tf.Tensor]]]:
        """Names of contrast terms, and functions of (query, content query, compared) of a layer."""
        temperature = self._settings.patch_nce.temperature

        def plain(query: tf.Tensor, content_query: tf.Tensor | None, compared: Compared) -> tf.Tensor:
            del content_query
            key = compared.hazy
            if self._is_odcr:  # CUT's projector gives unit vectors
                query, key = normalise(query), normalise(key)
            return patch_nce.loss_from_logits(patch_nce.internal_logits(query, key, temperature))

        yield PATCH_NCE, plain
        for name, reading in self._readings() if self._is_odcr else ():
            def weighted(query: tf.Tensor, content_query: tf.Tensor, compared: Compared,
                         reading: ODCRSettings = reading) -> tf.Tensor:
                return compared.loss(query, content_query, reading, temperature)

            yield name, weighted

    def _readings(self) -> Iterator[tuple[str, ODCRSettings]]:
        """Every reading of weighted PatchNCE, with the run's weights; first the decoupled form's content alone."""
        own = dataclasses.replace(self._settings.odcr, classifier_warmup_steps=0)
        yield CONTENT, dataclasses.replace(own, wpnce_form=DECOUPLED, wpnce_clear_patches=0)
        for roles, scale, form in itertools.product(ROLES, SCALES, (*FORMS, DECOUPLED)):
            if (roles, form) != ("printed", DECOUPLED):  # where roles concern the haze question alone
                yield reading_name(roles, scale, form), dataclasses.replace(
                    own, wpnce_roles=roles, wpnce_scale=scale, wpnce_form=form)

    def terms(self) -> Iterator[dict[str, Any]]:
        """One row per term and layer: `term`, `layer`, and figures that are means over the pictures.

        `size`: length of the gradient with respect to the output picture, relative to that of the GAN's. `truth`,
        `haze`, `content`: cosines of that gradient's descent direction. `step_size`, `step_truth`,
        `step_haze`, `step_content`: the same of how the outputs change if the generator's weights move against their
        gradient, for the terms of all layers; the only figures of the identity term, which looks at other pictures.
        Each cosine has a `_error`, the standard error of its mean over the pictures.
        """
        variables = [compat.raw_variable(weight) for weight in self._method.generator.trainable_variables]
        with tf.GradientTape(persistent=True) as tape:
            output = self._method.generator(self.batch.hazy, training=True)
            tape.watch(output)
            losses = self.losses(output)
            own = self._method.generator(self.batch.clear, training=True)
            losses[L1_IDENTITY, ALL_LAYERS] = tf.reduce_mean(tf.abs(own - self.batch.clear))
        usual = _length(tape.gradient(losses[GAN, ALL_LAYERS], output))
        usual_step = None
        for (term, layer), loss in losses.items():
            row: dict[str, Any] = {"term": term, "layer": layer}
            gradient = tape.gradient(loss, output)
            if gradient is not None:
                length = _length(gradient)
                row["size"] = _mean_ratio(length, usual)
                row.update(self._figures(-gradient.numpy()))
            if layer == ALL_LAYERS:
                step = tape.gradient(loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
                moved = self._after(variables, step)
                usual_step = _length(moved) if usual_step is None else usual_step
                row["step_size"] = _mean_ratio(_length(moved), usual_step)
                row.update({f"step_{name}": value for name, value in self._figures(moved).items()})
            yield row

    def _after(self, variables: list[tf.Variable], gradients: list[tf.Tensor]) -> np.ndarray:
        """Change of the outputs per length of a small step of the weights along -gradients, which is taken back."""
        before = [tf.identity(variable) for variable in variables]
        scale = _WEIGHT_STEP * tf.linalg.global_norm(before) / (tf.linalg.global_norm(gradients) + 1e-30)
        for variable, gradient in zip(variables, gradients):
            variable.assign_sub(scale * gradient)
        moved = self._method.generator(self.batch.hazy, training=True)
        for variable, value in zip(variables, before):
            variable.assign(value)
        return (moved - self.output).numpy() / np.maximum(scale.numpy(), 1e-30)

    def _figures(self, move: np.ndarray) -> dict[str, float]:
        hazy, truth, _ = self._pictures
        found = directions.alignment(move, self.output.numpy(), hazy, truth)._asdict()
        means = {name: float(np.mean(values)) for name, values in found.items()}
        errors = {f"{name}_error": float(np.std(values) / np.sqrt(len(values))) for name, values in found.items()}
        return {**means, **errors}

    # ---- the state itself -------------------------------------------------------------------------------------------

    def output_of_pictures(self) -> dict[str, float]:
        """Means over the pictures: `haze_left`, and the `content_error` as a part of the haze's length."""
        hazy, truth, _ = self._pictures
        parts = directions.split(self.output.numpy(), hazy, truth)
        error = _length(parts.content) / np.maximum(_length(parts.haze), 1e-30)
        return {"haze_left": float(np.mean(parts.haze_left)), "content_error": float(np.mean(error))}

    def classifier(self) -> list[dict[str, Any]]:
        """Per layer of ODCR: `accuracy` on these pictures, and whether its weights lie where haze is.

        `weights_correlation`: over the channels, of |theta_h * x| of a hazy picture with the mean absolute difference
        between its embeddings and those of the truth at the same places; mean over the pictures.
        """
        if not self._is_odcr:
            return []
        truths, rows = self._method.networks["projector"](self._encoded(self.batch.truth), self.ids), []
        for name, compared, truth in zip(self._method.feature_names, self._compared, truths):
            of_hazy, of_clear = compared.evidence
            right = [of_hazy.logits[:, HAZY] > of_hazy.logits[:, CLEAR],
                     of_clear.logits[:, CLEAR] > of_clear.logits[:, HAZY]]
            changed = tf.reduce_mean(tf.abs(normalise(compared.hazy) - normalise(truth)), 1).numpy()
            weights = tf.abs(of_hazy.contributions[:, HAZY]).numpy()
            rows.append({"layer": name, "accuracy": float(np.mean(np.concatenate(right))),
                         "weights_correlation": float(np.mean(directions.correlation(weights, changed)))})
        return rows


def _log_mean_similarity(query: tf.Tensor, patches: tf.Tensor, temperature: float) -> tf.Tensor:
    """log mean exp(cosine / temperature) of [B, P, C] and all [B, P', C] of the same picture: [B, P]."""
    cosines = tf.matmul(normalise(query), normalise(patches), transpose_b=True)
    return tf.reduce_logsumexp(cosines / temperature, -1) - tf.math.log(float(patches.shape[1]))


def reading_name(roles: str, scale: str, form: str) -> str:
    """How a reading of weighted PatchNCE is called in the table."""
    return f"WPNCE {roles}, {scale}, {form}"


def _mean_ratio(lengths: np.ndarray, usual: np.ndarray) -> float:
    return float(np.mean(np.divide(lengths, usual, out=np.zeros_like(lengths), where=usual > 0)))


def _length(pictures: Any) -> np.ndarray:
    return np.sqrt(np.sum(np.square(np.asarray(pictures, np.float64)), axis=(1, 2, 3)))
