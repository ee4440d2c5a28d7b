"""What all training methods share: networks, optimizers, replicas, mixed precision, running means, one step."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from cut_tf import compat, networks
from cut_tf.checkpoints import CheckpointStore, check_same_settings, run_folder, write_settings
from cut_tf.common.errors import InputError, NonFiniteError
from cut_tf.layers.kernels import plain_kernels
from cut_tf.methods.loss_scaling import LossScaling, put_back_unless
from cut_tf.methods.optimizers import Adam
from cut_tf.methods.regularization import build_regularization
from cut_tf.methods.replicas import replica_count, step_variable
from cut_tf.methods.step_terms import StepRecord, StepTerms, non_finite_message
from cut_tf.methods.tracing import shared_constants, traced
from cut_tf.networks.keras_files import save_keras_file
from cut_tf.settings import Settings

# A run with seed s gives its networks the weight seeds 10 s, 10 s + 1, ..., so that no two runs share one. No method
# has more than 6 networks.
SEEDS_PER_RUN = 10
# The entries of `TranslationMethod.state` that a step of float16 changes even if its gradients overflow.
_ALWAYS_COUNTED = ("step", "loss_scale", "finite_steps")


class TranslationMethod(keras.Model):
    """Base of the methods: a keras.Model whose `fit` takes batches {"source": images, "target": images}.

    A subclass makes its networks in `_build_networks`. It draws random numbers from `self.draw_seed` alone. Whatever it
    keeps from step to step is in variables that `state` names. `_take_step` returns named scalar terms, `loss/<term>`
    and `metric/<name>`. Images are float32 [B, H, W, 3] in [-1, 1]; B is the batch of one replica.

    With float16 a step is undone if a gradient of any network overflows. Then all of `state` is as before the step:
    weights, optimizer slots and iterations, and with them the learning rate's schedule, running means and statistics,
    spectral vectors, pools and queues. Only `step`, which counts batches, and the loss scale change.

    Args:
      settings: all settings of the run.

    Attributes:
      regularize: gives the terms of contrastive regularization; none with `contrastive_weight` 0.
      networks: name to network; "generator" is what inference and export use.
      ema_generator: the generator with running means of its weights, or None with `ema_decay` 0.
      optimizers_by_network: name to optimizer, after `compile`.
      step: int64 scalar variable, steps done.
      loss_scaling: the loss scale of float16.
      step_logs: all terms of the last step, read from the device when they are asked for.
      input_wait_sec: seconds that the last step waited for its batch.
      wrap_step: what `fit` puts around the compiled step, such as `cut_tf.methods.stored_steps.StoredStep`; or None.
    """

    # Terms shown on the progress bar.
    progress_terms: tuple[str, ...] = ("loss/generator", "loss/discriminator")
    # Whether source and target images of a batch must show the same scene.
    paired = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(name=settings.train.method)
        self.settings = settings
        self.policy = networks.POLICIES[settings.devices.precision]
        self.regularize = build_regularization(settings)
        self.networks = self._build_networks()
        self.ema_generator = self._build_ema()
        self.step = step_variable(0, tf.int64)
        self.loss_scaling = LossScaling(settings.devices.precision == "float16")
        self.optimizers_by_network = {}
        self.step_logs, self.input_wait_sec = StepTerms((), tf.zeros([0])), 0.0
        self.stop_requested = False  # of this process; each step tells all, as its term `stop_requested`
        self._record = StepRecord()
        self.wrap_step = None
        self.built = True

    def _build_networks(self) -> dict[str, keras.Model]:
        raise NotImplementedError

    def _new_generator(self, name: str) -> keras.Model:
        """A generator like that of `networks`, for the running means."""
        raise NotImplementedError

    def _build_ema(self) -> keras.Model | None:
        if not self.settings.optimizer.ema_decay:
            return None
        ema = self._new_generator("ema_generator")
        ema.trainable = False
        for mean, weight in self._pairs_with_ema(ema):
            mean.assign(weight)
        return ema

    def _pairs_with_ema(self, ema: keras.Model) -> list[tuple[tf.Variable, tf.Variable]]:
        """Pairs (running mean, weight), matched by name, since Keras 2 reorders the weights of a frozen network."""
        means = compat.named_weights(ema)
        return [(means[name], weight) for name, weight in compat.named_weights(self.generator).items()]

    @property
    def generator(self) -> keras.Model:
        """The network that training updates."""
        return self.networks["generator"]

    @property
    def inference_generator(self) -> keras.Model:
        """The network that evaluation uses: running means where there are any."""
        return self.generator if self.ema_generator is None else self.ema_generator

    def compile(self, learning_rate: object = None,
                optimizers: Mapping[str, keras.optimizers.Optimizer] | None = None,
                run_eagerly: bool = False) -> None:
        """Makes one optimizer per network.

        Args:
          learning_rate: number or Keras schedule; the settings' constant rate if None.
          optimizers: by network name; Adam as in the official code for networks that it does not name.
          run_eagerly: run `train_step` without compilation, to debug.

        Raises:
          InputError: if `optimizers` names a network that the method does not have.
        """
        adam = self.settings.optimizer
        given = dict(optimizers or {})
        unknown = sorted(set(given) - set(self.networks))
        if unknown:
            raise InputError(f"optimizers must name networks of {self.name} ({', '.join(self.networks)}), "
                             f"found {', '.join(unknown)}")
        rate = adam.learning_rate if learning_rate is None else learning_rate
        with self.distribute_strategy.scope():
            for name, network in self.networks.items():
                if not network.trainable_variables:
                    continue
                optimizer = given.get(name) or Adam(rate, adam.beta_1, adam.beta_2, name=f"{name}_adam")
                compat.build_optimizer(optimizer, network.trainable_variables)
                self.optimizers_by_network[name] = optimizer
            compat.compile_keras_model(self, self.optimizers_by_network["generator"], run_eagerly)

    def call(self, source: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Translates float32 [B, H, W, 3] in [-1, 1] with the inference generator."""
        return self.inference_generator(source, training=training)

    def translate(self, pictures: np.ndarray, weights: str = "ema") -> np.ndarray:
        """Translates uint8 pictures.

        Args:
          pictures: uint8 [H, W, 3] or [B, H, W, 3], any H, W of at least 16.
          weights: ema for the running means, raw for the weights that training updates.

        Returns:
          uint8 of the same shape.

        Raises:
          ValueError: if shape, dtype or `weights` is none of these.
        """
        if weights not in ("ema", "raw"):
            raise ValueError(f"weights must be ema or raw, found {weights!r}")
        return (self.generator if weights == "raw" else self.inference_generator).translate(pictures)

    def save(self, folder: str | Path, overwrite: bool = True) -> None:
        """Writes settings and a checkpoint of this step, so that `Translator`, `restore` and the mains can use them.

        Args:
          folder: made if it is not there; the folder of this model, or an empty one. Or a file NAME.keras, for the
            inference generator alone, as Keras stores models.
          overwrite: replace a .keras file. Checkpoints are never replaced.

        Raises:
          InputError: if it holds a model of other settings or a checkpoint of this step, or cannot be written.
          NonFiniteError: if a step of the last `fit` was not finite.
        """
        self.check_finite()
        if str(folder).endswith(".keras"):
            save_keras_file(self.inference_generator, Path(folder), overwrite)
            return
        folder, step = run_folder(folder), int(self.step.numpy())
        check_same_settings(folder, self.settings)
        store = CheckpointStore(folder, self.settings.train.keep_checkpoints)
        if step in store.steps():
            raise InputError(f"{store.path(step)}: a checkpoint of step {step} is there, and is not replaced; name "
                             "another folder")
        write_settings(folder, self.settings)
        store.save(self.state(), step, self.settings)

    def export(self, filepath: str | Path, **options: Any) -> None:
        """Keras' export, of the inference generator: see `cut_tf.networks.generators.base.Generator.export`."""
        self.inference_generator.export(filepath, **options)

    def restore(self, folder: str | Path) -> None:
        """Sets weights, optimizer slots and step from the newest checkpoint of a folder. Compile first.

        Raises:
          InputError: if there is no checkpoint, or it is one of other settings.
        """
        folder = Path(folder)
        check_same_settings(folder, self.settings)
        store = CheckpointStore(folder, self.settings.train.keep_checkpoints)
        store.restore(self.state(), store.find("last"))

    # ---- one step -------------------------------------------------------------------------------------------------

    def train_step(self, batch: dict[str, tf.Tensor], draws: object = None) -> dict[str, tf.Tensor]:
        """One step.

        Args:
          batch: {"source", "target"}, float32 [B, H, W, 3] in [-1, 1].
          draws: the random draws of a recorded step, for methods that can reproduce one; drawn if None.

        Returns:
          Named scalar terms.
        """
        before = [tf.convert_to_tensor(variable) for variable in self._undone_by_overflow()]
        with plain_kernels(self.settings.devices.plain_kernels):
            terms = self._take_step(batch) if draws is None else self._take_step(batch, draws)
        step = self.step.assign_add(1)
        if self.ema_generator is not None:
            count = tf.cast(step, tf.float32)
            # At first the means follow faster, or the random initial weights would stay in them for thousands of steps.
            decay = tf.minimum(self.settings.optimizer.ema_decay, (1.0 + count) / (10.0 + count))
            tf.distribute.get_replica_context().merge_call(self._move_ema, args=(decay, 1.0 - decay))
        if self.loss_scaling.used:
            terms["metric/loss_scale"] = tf.identity(self.loss_scaling.scale)
            bad = [value >= 0.0 for name, value in terms.items() if name.startswith("non_finite/")]
            finite = tf.logical_not(tf.reduce_any(tf.stack(bad)))
            put_back_unless(finite, self._undone_by_overflow(), before)
            self.loss_scaling.adapt(finite)
        return terms

    def _take_step(self, batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """The method's own part of `train_step`: updates all networks."""
        raise NotImplementedError

    def draw_seed(self, purpose: int) -> tf.Tensor:
        """int32 [2], a function of (run seed, step, purpose): the same on every replica and after a resume."""
        seed = tf.constant([self.settings.train.seed % 2**31, purpose], tf.int32)
        # The algorithm is named, since the automatic choice differs under XLA.
        return tf.random.experimental.stateless_fold_in(seed, self.step, alg="philox")

    def scale(self, loss: tf.Tensor) -> tf.Tensor:
        """Scales the replica's loss before its gradient is taken. Call it inside the tape.

        `loss` is a mean over the replica's batch, and gradients are summed over replicas. Dividing by the number of
        replicas makes them gradients of the mean over the global batch. With float16 the loss scale multiplies it.
        """
        return loss / replica_count() * self.loss_scaling.scale

    def update_networks(self, names: Sequence[str], tape: tf.GradientTape,
                        scaled_loss: tf.Tensor) -> dict[str, tf.Tensor]:
        """One optimizer step of several networks on one loss, in that order.

        Args:
          names: networks.
          tape: has recorded `scaled_loss`. It cannot be used again.
          scaled_loss: scalar, the result of `scale`.

        Returns:
          `gradient_norm/<network>` of the gradients summed over replicas, `learning_rate/<network>`, and
          `non_finite/<network>`: the index of the first trainable weight whose gradient is not finite, or -1.
        """
        names = [name for name in names if name in self.optimizers_by_network]
        variables = [[compat.raw_variable(weight) for weight in self.networks[name].trainable_variables]
                     for name in names]
        gradients = tape.gradient(scaled_loss, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
        context = tf.distribute.get_replica_context()
        summed = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        terms = {}
        finite = tf.constant(True)
        for index, name in enumerate(names):
            if self.loss_scaling.used:
                summed[index] = [gradient / self.loss_scaling.scale for gradient in summed[index]]
            squares = tf.stack([tf.reduce_sum(tf.square(gradient)) for gradient in summed[index]])
            terms[f"gradient_norm/{name}"] = tf.sqrt(tf.reduce_sum(squares))
            bad = tf.logical_not(tf.math.is_finite(squares))
            first_bad = tf.where(tf.reduce_any(bad), tf.argmax(bad, output_type=tf.int32), -1)
            terms[f"non_finite/{name}"] = tf.cast(first_bad, tf.float32)
            finite = tf.logical_and(finite, first_bad < 0)
        if self.loss_scaling.used:
            # On overflow `train_step` undoes this update. Until then weights stay finite for the networks after it.
            summed = [[tf.where(finite, gradient, 0.0) for gradient in group] for group in summed]
        for name, group in zip(names, summed):
            terms[f"learning_rate/{name}"] = compat.learning_rate(self.optimizers_by_network[name])
            compat.apply_summed_gradients(self.optimizers_by_network[name], group,
                                          self.networks[name].trainable_variables)
        return terms

    def _undone_by_overflow(self) -> list[tf.Variable]:
        """The variables that a step of float16 may have to restore; none with other precisions."""
        if not self.loss_scaling.used:
            return []
        return [variable for name, variable in self.state().items() if name not in _ALWAYS_COUNTED]

    def _move_ema(self, strategy: tf.distribute.Strategy, decay: tf.Tensor, rest: tf.Tensor) -> None:
        def move(mean: tf.Variable, weight: tf.Tensor, decay: tf.Tensor, rest: tf.Tensor) -> None:
            mean.assign(mean * decay + tf.cast(weight, mean.dtype) * rest, read_value=False)

        for mean, weight in self._pairs_with_ema(self.ema_generator):
            strategy.extended.update(mean, move, args=(weight, decay, rest), group=False)

    # ---- Keras ----------------------------------------------------------------------------------------------------

    def make_train_function(self, force: bool = False) -> Callable:
        """Keras' hook, called by every `fit`.

        The function takes the batch outside of the compiled step, so that the wait for input can be measured. It never
        waits for the step itself. It returns the terms of the last logged step (--log_steps) for the progress bar.
        """
        self._record, self._steps_begun, self._terms_shown = StepRecord(), int(self.step.numpy()), {}
        if getattr(self, "train_function", None) is not None and not force:
            return self.train_function
        take_step, names = self._compiled_step()
        if self.wrap_step is not None:
            take_step = self.wrap_step(take_step, names)

        def train_function(iterator: object) -> dict[str, float]:
            start = time.perf_counter()
            batch = next(iterator)
            self.input_wait_sec = time.perf_counter() - start
            terms = StepTerms(names, take_step(batch, tf.constant(float(self.stop_requested))))
            object.__setattr__(self, "step_logs", terms)  # that of Keras 2 would read them, and so wait
            self._steps_begun += 1
            self._record.add(self._steps_begun, terms)
            if not self._terms_shown or self._steps_begun % self.settings.train.log_steps == 0:
                self._terms_shown = self.get_metrics_result()
            return dict(self._terms_shown)

        self.train_function = train_function
        return train_function

    def _compiled_step(self) -> tuple[Callable, list[str]]:
        """A step of all replicas: (batch, whether to stop) to terms [N]; and their names, filled by the first run."""
        strategy, names = self.distribute_strategy, []
        step = traced(self.train_step, jit_compile=True) if self.settings.devices.xla else self.train_step

        def step_of_replica(batch: object, stop: tf.Tensor) -> tf.Tensor:
            terms = {**step(batch), "stop_requested": stop}
            names[:] = [*terms, "all_finite"]
            return tf.stack([tf.cast(value, tf.float32) for value in terms.values()])

        def step_of_all(batch: object, stop: tf.Tensor) -> tf.Tensor:
            # One vector, so that the replicas exchange their terms once.
            with shared_constants(strategy):
                values = strategy.run(step_of_replica, args=(batch, stop))
            means = strategy.reduce(tf.distribute.ReduceOp.MEAN, values, axis=None)
            return tf.concat([means, [self._all_finite(dict(zip(names, tf.unstack(means))))]], 0)

        return step_of_all if self.run_eagerly else traced(step_of_all, reduce_retracing=True), names

    def get_metrics_result(self) -> dict[str, float]:
        """Keras' hook: the terms of the last step, for the end of the progress bar. Waits for the device."""
        return {name: self.step_logs[name] for name in self.progress_terms if name in self.step_logs}

    def _maybe_symbolic_build(self, *args: object, **kwargs: object) -> None:
        """Keras 3's hook to build a model from a first batch. All weights exist already, and no batch is used up."""

    def check_finite(self) -> None:
        """Checks all steps of this `fit`, or of the last one. Waits for the device.

        Raises:
          NonFiniteError: if a term or a gradient was not finite, with the first such step, its terms and layers.
        """
        bad = self._record.first_bad()
        if bad is not None:
            raise NonFiniteError(non_finite_message(*bad, self.trainable_names))

    def _all_finite(self, terms: dict[str, tf.Tensor]) -> tf.Tensor:
        """1.0, or 0.0 if a loss or a gradient of the step is not finite."""
        losses = tf.stack([value for name, value in terms.items() if name.startswith("loss/")])
        gradients = tf.stack([value for name, value in terms.items() if name.startswith("non_finite/")])
        overflow = tf.reduce_any(gradients >= 0.0)
        fine = tf.logical_and(tf.reduce_all(tf.math.is_finite(losses)), tf.logical_not(overflow))
        if self.loss_scaling.used:
            # A step with an overflow is undone, which is normal. It is an error only if the loss scale cannot fall.
            fine = tf.logical_or(fine, tf.logical_and(overflow, terms["metric/loss_scale"] > 1.0))
        return tf.cast(fine, tf.float32)

    def histograms(self) -> dict[str, tf.Variable]:
        """Values whose histograms go to TensorBoard besides those of the weights, by name."""
        return {}

    def trainable_names(self, name: str) -> list[str]:
        """Names of the trainable weights of network `name`, in their order."""
        network = self.networks[name]
        names = {id(value): key for key, value in compat.named_weights(network).items()}
        return [names[id(compat.raw_variable(weight))] for weight in network.trainable_variables]

    def state(self) -> dict[str, tf.Variable]:
        """Everything that a continued run needs, by name: weights, optimizer slots, running means, step."""
        state = {"step": self.step, "loss_scale": self.loss_scaling.scale,
                 "finite_steps": self.loss_scaling.finite_steps}
        for name, network in self.networks.items():
            state.update({f"{name}/{key}": value for key, value in compat.named_weights(network).items()})
            if name in self.optimizers_by_network:
                slots = compat.optimizer_state(self.optimizers_by_network[name], self.trainable_names(name))
                state.update({f"optimizer/{name}/{key}": value for key, value in slots.items()})
        if self.ema_generator is not None:
            means = compat.named_weights(self.ema_generator)
            state.update({f"ema_generator/{key}": value for key, value in means.items()})
        return state
