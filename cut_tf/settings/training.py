"""Settings of the run: method, length, optimizers, devices, what is measured and what is kept."""

from __future__ import annotations

import dataclasses

from cut_tf.settings.fields import Checked, require, setting

# Help of --tf32, which commands without settings have too.
TF32_HELP = (
    "let GPUs of NVIDIA's Ampere generation and newer round the inputs of float32 convolutions and products to "
    "TensorFloat-32, with 10 bits after the point instead of 23. Off, since the results of the official code are met "
    "within 1e-4 in full float32 only. What it saves was not measured")


@dataclasses.dataclass(frozen=True)
class TrainSettings(Checked):
    """Method, folder, seed, and what is written when."""

    method: str = setting("cut", "training method", often=True)
    run: str = setting("", "folder of the run: settings, checkpoints, TensorBoard events; resumed if it exists",
                       free=True, often=True)
    init_from: str = setting(
        "", "folder of a run, or DIR@STEP, whose weights training begins with, those of every network that both have, "
        "without the state of the optimizers. Its networks' settings are taken over", often=True)
    seed: int = setting(0, "seed of weights, data order, augmentation and patch sampling, below 2^32", often=True)
    log_steps: int = setting(20, "steps between TensorBoard scalars", free=True)
    image_steps: int = setting(500, "steps between TensorBoard images and histograms", free=True)
    checkpoint_steps: int = setting(1000, "steps between checkpoints", free=True, often=True)
    keep_checkpoints: int = setting(3, "newest checkpoints to keep, besides the best and the final one", free=True)
    step_cache: str = setting(
        "auto", "folder that keeps the graphs of training steps, so that the next process with the same settings "
        "starts sooner; auto: cut_tf/steps in the user's cache ($XDG_CACHE_HOME, ~/.cache); none: keep nothing",
        free=True)
    allow_changed_data: bool = setting(
        False, "continue a run although its training pictures, or the run that it learns from, have changed since it "
        "began", free=True)

    def _check(self) -> None:
        self._positive("checkpoint_steps", "keep_checkpoints", "log_steps", "image_steps")
        require(bool(self.step_cache) and "://" not in self.step_cache, "step_cache",
                "auto, none or a folder of this machine", self.step_cache)
        require(self.seed < 2**32, "seed", "below 2^32 (4294967296)", self.seed)


@dataclasses.dataclass(frozen=True)
class OptimizerSettings(Checked):
    """Length of the training and the Adam optimizers."""

    constant_epochs: int = setting(200, "epochs at the full learning rate", often=True)
    decay_epochs: int = setting(200, "epochs over which the learning rate then falls; see schedule", often=True)
    steps_per_epoch: int = setting(0, "steps of an epoch; 0 means once through the larger domain", often=True)
    schedule: str = setting("linear", "how the learning rate falls in decay_epochs", ("linear", "cosine"))
    learning_rate: float = setting(2e-4, "learning rate of all three Adam optimizers", often=True)
    beta_1: float = setting(0.5, "decay of Adam's mean of gradients")
    beta_2: float = setting(0.999, "decay of Adam's mean of squared gradients")
    ema_decay: float = setting(
        0.999, "decay per step of the running mean of the generator's weights; 0 keeps none", often=True)

    def _check(self) -> None:
        self._positive("learning_rate")
        for name in ("beta_1", "beta_2", "ema_decay"):
            require(getattr(self, name) < 1, name, "below 1", getattr(self, name))
        epochs = self.constant_epochs + self.decay_epochs
        require(epochs > 0, "constant_epochs", "positive, unless --decay_epochs is", self.constant_epochs)


@dataclasses.dataclass(frozen=True)
class DeviceSettings(Checked):
    """Arithmetic and devices."""

    precision: str = setting(
        "float32", "arithmetic of the networks; losses and statistics stay float32", ("float32", "bfloat16", "float16"),
        often=True,
    )
    tf32: bool = setting(False, TF32_HELP, free=True)
    xla: bool = setting(False, "compile the training step with XLA, on one device; random draws then differ")
    plain_kernels: bool = setting(
        False, "train with TensorFlow's own operations alone, without this package's faster forms of convolution, "
        "padding and instance norm: slower, for comparison", free=True)
    deterministic: bool = setting(False, "same bits in every run with the same seed (slower)")
    num_virtual_devices: int = setting(0, "split the CPU into this many devices, to test several replicas")


@dataclasses.dataclass(frozen=True)
class EvaluationSettings(Checked):
    """What is measured during training, and which checkpoint is the best."""

    eval_steps: int = setting(
        500, "steps between evaluations on the test pairs, where there are pairs", free=True, often=True)
    best_metric: str = setting("psnr", "metric that decides which checkpoint is kept as the best", free=True)
    distribution_metric: str = setting("none", "distance between outputs and targets of the test split, which need not "
                                       "be pairs; measured every --eval_steps", free=True)
    feature_extractor: str = setting(
        "inception", "features for --distribution_metric: inception, random, run:DIR or a SavedModel's folder",
        free=True)
    inception_weights: str = setting("", "file of InceptionV3's weights; if empty, the one in Keras' cache, or a "
                                     "download", free=True)

    def _check(self) -> None:
        self._positive("eval_steps")
