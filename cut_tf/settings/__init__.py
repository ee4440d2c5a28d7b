"""Every setting of a run, with its default, its unit and the check of its value.

One frozen dataclass per concern. Each field carries the help text of its flag; `cut_tf/flags.py` makes the flags
from the fields, so a setting is written once. Names end in their unit (`_px`, `_steps`, `_epochs`, `_mb`, `_weight`).
"""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

from cut_tf.errors import InputError

# Of the discriminator. With so many it needs crops of 3072 px.
_MOST_LAYERS = 10
# Of the flag --tf32, which commands without settings have too.
TF32_HELP = (
    "let GPUs of NVIDIA's Ampere generation and newer round the inputs of float32 convolutions and products to "
    "TensorFloat-32, with 10 bits after the point instead of 23. Off, since the results of the official code are met "
    "within 1e-4 in full float32 only. What it saves was not measured")


def _setting(default: Any, help_text: str, choices: tuple[str, ...] = (), free: bool = False) -> Any:
    """A dataclass field with the metadata that its flag and the resume check need.

    Args:
      default: default value; its type is the type of the flag.
      help_text: help of the flag.
      choices: the allowed values, if the setting is one of a few names.
      free: whether a run may be resumed with another value (true if it cannot change the trained weights).
    """
    return dataclasses.field(default=default, metadata={"help": help_text, "choices": choices, "free": free})


def _require(holds: bool, name: str, rule: str, found: Any) -> None:
    if not holds:
        raise InputError(f"--{name} must be {rule}, found {found!r}")


class _Checked:
    """Common part of the settings classes: the checks that follow from the fields alone."""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            choices = field.metadata["choices"]
            kinds = (float, int) if isinstance(field.default, float) else (type(field.default),)
            _require(type(value) in kinds, field.name, f"of type {kinds[0].__name__}", value)
            _require(not choices or value in choices, field.name, f"one of {', '.join(choices)}", value)
            if isinstance(value, float):
                _require(math.isfinite(value), field.name, "a finite number", value)
            if isinstance(value, (int, float)):
                _require(value >= 0, field.name, "zero or more", value)
        self._check()

    def _check(self) -> None:
        """Checks that concern single fields beyond type and choice, or several fields together."""

    def _positive(self, *names: str) -> None:
        for name in names:
            _require(getattr(self, name) > 0, name, "more than zero", getattr(self, name))


@dataclasses.dataclass(frozen=True)
class DataSettings(_Checked):
    """Where the images of both domains come from and how they become training crops."""

    dataset: str = _setting(
        "scenes",
        "scenes (embedded, no download); a folder with trainA, trainB and, if any, testA, testB; two folders A,B; "
        "haze:TRAIN_DIR[,TEST_DIR], folders laid out as RESIDE (ITS, OTS, SOTS/indoor, SOTS/outdoor), O-HAZE, I-HAZE, "
        "NH-HAZE or Dense-Haze; hazed:CLEAR_DIR[,TEST_DIR], clear photographs that get haze as they are read; or "
        "tfds:NAME such as tfds:cycle_gan/horse2zebra or tfds:haze_pairs; or single:SOURCE_FILE,TARGET_FILE, a picture "
        "each (SinCUT). A + joins datasets: scenes+hazed:CLEAR_DIR",
    )
    preprocess: str = _setting(
        "resize_and_crop",
        "resize_and_crop: to load_size square, then a random crop. scale_width: width to load_size, keeping the "
        "aspect, then a random crop. crop: random crop of the image as it is. zoom_and_crop: shorter side to load_size "
        "at most, then reduced up to 3 times at random, then a random crop (SinCUT). none: the image as it is, cut to "
        "a multiple of 4 (batch 1)",
        ("resize_and_crop", "scale_width", "crop", "zoom_and_crop", "none"),
    )
    load_size_px: int = _setting(286, "size in pixels that the image is resized to before the crop")
    crop_size_px: int = _setting(256, "side in pixels of the square training crop")
    flip: bool = _setting(True, "mirror training images left-right at random")
    quarter_turns: bool = _setting(False, "turn training images by 0, 90, 180 or 270 degrees at random (AECR-Net)")
    batch_size: int = _setting(1, "images of each domain per step, over all replicas together (global batch)")
    cache_mb: int = _setting(1024, "keep decoded images in memory up to this many MiB; 0 keeps none", free=True)
    data_workers: int = _setting(0, "images decoded in parallel; 0 means one per CPU core, 2 at least", free=True)
    scenes_images: int = _setting(200, "scenes in each domain of the embedded dataset's training split")
    scenes_size_px: int = _setting(128, "side in pixels of the embedded dataset's pictures")
    haze_variants: int = _setting(4, "hazes that each photograph of --dataset=hazed:... is seen with")
    test_images: int = _setting(24, "test images used for metrics during training", free=True)
    test_pairs: bool = _setting(
        True, "take a test split whose two sides have the same names as pairs, and measure PSNR and SSIM on them; "
        "--notest_pairs for pictures of different scenes that are only numbered alike", free=True)
    crop_border_px: int = _setting(
        0, "pixels cut from each side of clear test pictures of --dataset=haze:..., 10 for SOTS indoor", free=True)

    def _check(self) -> None:
        self._positive("load_size_px", "batch_size", "scenes_images", "haze_variants")
        _require(bool(self.dataset), "dataset",
                 "scenes, a folder, two folders A,B, haze:TRAIN_DIR[,TEST_DIR], hazed:CLEAR_DIR[,TEST_DIR] or "
                 "tfds:NAME", self.dataset)
        _require(self.crop_size_px >= 16, "crop_size_px", "at least 16", self.crop_size_px)
        _require(self.scenes_size_px >= 16, "scenes_size_px", "at least 16", self.scenes_size_px)
        if self.preprocess in ("resize_and_crop", "scale_width"):
            rule = f"at most --load_size_px ({self.load_size_px}) with --preprocess={self.preprocess}"
            _require(self.crop_size_px <= self.load_size_px, "crop_size_px", rule, self.crop_size_px)
        if self.preprocess == "none":
            rule = "1 with --preprocess=none, whose images may differ in size"
            _require(self.batch_size == 1, "batch_size", rule, self.batch_size)


@dataclasses.dataclass(frozen=True)
class NetworkSettings(_Checked):
    """The networks. Defaults are those of the CUT paper and its official code."""

    generator: str = _setting("resnet", "generator network: resnet, that of the papers; mobile, light, for phones; "
                              "stylegan2, that of SinCUT; aecrnet, that of AECR-Net, without norms",
                              ("resnet", "mobile", "stylegan2", "aecrnet"))
    discriminator: str = _setting("patch", "discriminator network: patch, the PatchGAN; stylegan2, that of SinCUT, "
                                  "one score per picture", ("patch", "stylegan2"))
    stylegan2_downsamplings: int = _setting(1, "times that the stylegan2 generator halves the resolution")
    stylegan2_size_px: int = _setting(64, "crop that stylegan2 networks are made for, a power of two; the larger, the "
                                      "fewer channels for one ngf and ndf. That of the discriminator is its input")
    generator_blocks: int = _setting(9, "residual blocks of the generator")
    ngf: int = _setting(64, "channels after the generator's first convolution")
    ndf: int = _setting(64, "channels after the discriminator's first convolution")
    discriminator_layers: int = _setting(3, "downsampling layers of the PatchGAN discriminator; 3 sees 70x70 pixels")
    generator_norm: str = _setting("instance", "normalisation in the generator", ("instance", "batch", "none"))
    recompute_blocks: bool = _setting(
        False, "compute the activations of the generator's residual blocks again in the backward pass instead of "
        "keeping them: less memory, more time; with --generator=resnet and --generator_norm=instance", free=True)
    discriminator_norm: str = _setting(
        "instance", "normalisation in the discriminator; spectral divides each kernel by its largest singular value "
        "instead of normalising features (Miyato et al., ICLR 2018)", ("instance", "batch", "none", "spectral"))
    antialias_down: bool = _setting(True, "blur before downsampling, in generator and discriminator")
    antialias_up: bool = _setting(True, "blurred upsampling in the generator instead of transposed convolution")
    aecr_shared: bool = _setting(True, "aecrnet: one attention block for its six uses, one deformable convolution for "
                                 "its two, as in the official code")
    aecr_mixup: bool = _setting(True, "aecrnet: mix early features into the decoder (adaptive mixup)")
    aecr_dfe: bool = _setting(True, "aecrnet: deformable convolutions after the blocks (dynamic feature enhancement)")
    aecr_whitening: bool = _setting(False, "aecrnet: start with a 3x3 convolution of whitened patches")
    projector: str = _setting("mlp", "patch projector: mlp, or sample, which compares the features themselves",
                              ("mlp", "sample"))
    projector_width: int = _setting(256, "channels of the patch projector's two layers")

    def least_side_px(self) -> int:
        """Least side in pixels of what the discriminator `patch` judges.

        Downsampling halves the crop; the last two 4x4 convolutions take one pixel each and leave one at least.
        """
        return 3 * 2**self.discriminator_layers

    def _check(self) -> None:
        self._positive("ngf", "ndf", "discriminator_layers", "projector_width")
        _require(self.discriminator_layers <= _MOST_LAYERS, "discriminator_layers", f"at most {_MOST_LAYERS}",
                 self.discriminator_layers)
        found = f"true with {self.generator} and {self.generator_norm}"
        _require(not self.recompute_blocks or (self.generator, self.generator_norm) == ("resnet", "instance"),
                 "recompute_blocks", "false, but with --generator=resnet and --generator_norm=instance", found)


@dataclasses.dataclass(frozen=True)
class LossSettings(_Checked):
    """The terms of the objective and their weights (CUT paper, eq. 1-5)."""

    gan_mode: str = _setting(
        "lsgan", "adversarial loss", ("lsgan", "vanilla", "nonsaturating", "wgangp")
    )
    gan_weight: float = _setting(1.0, "weight of the generator's adversarial loss")
    gradient_penalty_weight: float = _setting(10.0, "weight of the gradient penalty; used with gan_mode wgangp only")
    r1_weight: float = _setting(0.0, "weight of the R1 penalty on real images; SinCUT uses 1")
    nce_weight: float = _setting(1.0, "lambda_X: weight of PatchNCE between source and output; FastCUT uses 10")
    nce_identity_weight: float = _setting(
        1.0,
        "lambda_Y: weight of PatchNCE between a target image and its own translation; 0 leaves it out (FastCUT). "
        "With it, both PatchNCE terms are halved, as in the official code",
    )
    l1_identity_weight: float = _setting(
        0.0, "weight of mean absolute difference between a target image and its own translation (dehazing, GcGAN: 5)"
    )
    nce_layers: str = _setting(
        "0,4,8,12,16", "generator features compared by PatchNCE, as stage numbers of the official sequence"
    )
    contrastive_weight: float = _setting(0.0, "weight of contrastive regularization (AECR-Net: 0.1); 0 leaves it out")
    contrastive_features: str = _setting(
        "vgg19", "its features: vgg19; random, which needs no file; run:DIR, the encoder of a run's generator, at "
        "its newest checkpoint when this run begins; run:DIR@STEP names one")
    contrastive_form: str = _setting("ratio", "ratio of distances to clear and hazy pictures, or positives alone",
                                     ("ratio", "positives"))
    contrastive_positives: int = _setting(1, "clear pictures per output: its target and the next ones of the batch")
    contrastive_negatives: int = _setting(1, "hazy pictures per output: its source and the next ones of the batch")
    vgg_weights: str = _setting("", "file of vgg19's weights; empty: Keras' cache, or a download into it")
    num_patches: int = _setting(256, "patches drawn per image and layer; each query has num_patches - 1 negatives")
    num_negatives: int = _setting(0, "negatives kept per query, for ablations; 0 keeps all")
    temperature: float = _setting(0.07, "temperature of PatchNCE")
    negatives: str = _setting(
        "internal",
        "where negatives come from: internal, the same image; minibatch, all images of the step (SinCUT); external, "
        "images of earlier steps (eq. 4, an ablation that the paper found to hurt); internal_external, both together",
        ("internal", "minibatch", "external", "internal_external"),
    )
    source_noise_levels: float = _setting(
        0.0, "paired, distill: standard deviation in levels of 0 to 255 of the sensor noise added to the source")
    flip_equivariance: bool = _setting(
        False, "mirror the generator's input in half of the steps and its features back inside the loss (FastCUT)"
    )
    cycle_weight: float = _setting(10.0, "CycleGAN: weight of each of the two cycle losses")
    cycle_identity_weight: float = _setting(0.5, "CycleGAN: weight of each identity loss, as a part of --cycle_weight")
    pool_images: int = _setting(
        50, "CycleGAN, GcGAN, DistanceGAN: earlier outputs kept for each discriminator to see again; 0 keeps none")
    geometry: str = _setting("rot90", "GcGAN: rot90, a quarter turn; vflip, upside down", ("rot90", "vflip"))
    geometry_weight: float = _setting(20.0, "GcGAN: weight of the geometry consistency")
    distance: str = _setting("self", "DistanceGAN: distances to keep. self: of the halves of an image; pairs: of all "
                             "pairs of images of a batch", ("self", "pairs"))
    distance_weight: float = _setting(1.0, "DistanceGAN: weight of the distances' loss")
    wpnce_roles: str = _setting(
        "swapped",
        "ODCR: what pulls an output patch towards the hazy one at its place. printed: the channels that tell haze, as "
        "the paper prints it; swapped: the others, which is the paper's aim",
        ("printed", "swapped"),
    )
    wpnce_scale: str = _setting(
        "normalise_after",
        "ODCR: channel weights. softmax, as printed; max1, divided by their maximum; sigmoid, of the standardised "
        "evidence; normalise_after, softmax and then weighted vectors of unit length",
        ("softmax", "max1", "sigmoid", "normalise_after"),
    )
    wpnce_form: str = _setting(
        "split", "ODCR: printed, one fraction over all terms; split, content and haze asked apart and added",
        ("printed", "split"),
    )
    wpnce_haze_weight: float = _setting(1.0, "ODCR: weight of the haze question in the split form")
    wpnce_clear_patches: int = _setting(256, "ODCR: patches of clear images that each query is compared with; 0 none")
    classifier_learning_rate: float = _setting(1e-2, "ODCR: learning rate of the feature classifier")
    classifier_warmup_steps: int = _setting(0, "ODCR: steps of plain PatchNCE before the classifier's weights count")
    classifier_units: int = _setting(8, "ODCR: functions per channel in the feature classifier")
    input_layer: str = _setting(
        "exclude", "ODCR: the 3-channel RGB input among --nce_layers. exclude: leave it out; own: 3 to 3 channels",
        ("exclude", "own"),
    )

    def _check(self) -> None:
        self._positive("num_patches", "temperature", "classifier_learning_rate", "classifier_units")
        layers = self.layers()
        rule = "comma-separated, distinct, growing stage numbers such as 0,4,8,12,16"
        _require(bool(layers) and list(layers) == sorted(set(layers)) and layers[0] >= 0,
                 "nce_layers", rule, self.nce_layers)
        if self.negatives == "internal":
            rule = f"below --num_patches ({self.num_patches}) with --negatives=internal"
            _require(self.num_negatives < self.num_patches, "num_negatives", rule, self.num_negatives)
        else:
            rule = "0 unless --negatives=internal"
            _require(self.num_negatives == 0, "num_negatives", rule, self.num_negatives)

    def layers(self) -> tuple[int, ...]:
        """The stage numbers in `nce_layers`; empty if they are not numbers."""
        try:
            return tuple(int(part) for part in self.nce_layers.split(","))
        except ValueError:
            return ()


@dataclasses.dataclass(frozen=True)
class TrainSettings(_Checked):
    """The run: method, length, optimizers, devices, and what is written when."""

    method: str = _setting("cut", "training method")
    run: str = _setting("", "folder of the run: settings, checkpoints, TensorBoard events; resumed if it exists",
                        free=True)
    teacher: str = _setting("", "distill: folder of the run whose generator is learned from. A run stays with the "
                            "checkpoint that was the newest at its beginning; DIR@STEP names one")
    seed: int = _setting(0, "seed of weights, data order, augmentation and patch sampling, below 2^32")
    constant_epochs: int = _setting(200, "epochs at the full learning rate")
    decay_epochs: int = _setting(200, "epochs over which the learning rate then falls; see schedule")
    steps_per_epoch: int = _setting(0, "steps of an epoch; 0 means once through the larger domain")
    schedule: str = _setting("linear", "how the learning rate falls in decay_epochs", ("linear", "cosine"))
    learning_rate: float = _setting(2e-4, "learning rate of all three Adam optimizers")
    beta_1: float = _setting(0.5, "decay of Adam's mean of gradients")
    beta_2: float = _setting(0.999, "decay of Adam's mean of squared gradients")
    ema_decay: float = _setting(0.999, "decay per step of the running mean of the generator's weights; 0 keeps none")
    precision: str = _setting(
        "float32", "arithmetic of the networks; losses and statistics stay float32", ("float32", "bfloat16", "float16")
    )
    tf32: bool = _setting(False, TF32_HELP, free=True)
    xla: bool = _setting(False, "compile the training step with XLA, on one device; random draws are others then")
    plain_kernels: bool = _setting(
        False, "train with TensorFlow's own operations alone, without this package's faster forms of convolution, "
        "padding and instance norm: slower, for comparison", free=True)
    deterministic: bool = _setting(False, "same bits in every run with the same seed (slower)")
    num_virtual_devices: int = _setting(0, "split the CPU into this many devices, to test several replicas")
    checkpoint_steps: int = _setting(1000, "steps between checkpoints", free=True)
    allow_changed_data: bool = _setting(
        False, "go on with a run although its training pictures, or the run that it learns from, are others than at "
        "its beginning", free=True)
    keep_checkpoints: int = _setting(3, "newest checkpoints to keep, besides the best and the final one", free=True)
    log_steps: int = _setting(20, "steps between TensorBoard scalars", free=True)
    image_steps: int = _setting(500, "steps between TensorBoard images and histograms", free=True)
    eval_steps: int = _setting(500, "steps between evaluations on the test pairs, where there are pairs", free=True)
    best_metric: str = _setting("psnr", "metric that decides which checkpoint is kept as the best",
                                ("fid", "kid", "psnr", "ssim"), free=True)
    distribution_metric: str = _setting("none", "distance of outputs and targets of the test split, paired or not, at "
                                        "eval_steps", ("none", "fid", "kid"), free=True)
    feature_extractor: str = _setting(
        "inception", "of --distribution_metric: inception, random, run:DIR or a SavedModel's folder", free=True)
    inception_weights: str = _setting("", "file of its weights; empty: Keras' cache, or a download", free=True)

    def _check(self) -> None:
        self._positive("learning_rate", "checkpoint_steps", "keep_checkpoints", "log_steps", "image_steps",
                       "eval_steps")
        _require(self.seed < 2**32, "seed", "below 2^32 (4294967296)", self.seed)
        for name in ("beta_1", "beta_2", "ema_decay"):
            _require(getattr(self, name) < 1, name, "below 1", getattr(self, name))
        _require(bool(self.teacher) == (self.method == "distill"), "teacher",
                 "the folder of a run with --method=distill, and only with it", self.teacher)
        _require(self.best_metric in ("psnr", "ssim", self.distribution_metric), "best_metric",
                 f"psnr, ssim or --distribution_metric ({self.distribution_metric})", self.best_metric)
        epochs = self.constant_epochs + self.decay_epochs
        _require(epochs > 0, "constant_epochs", "positive, unless --decay_epochs is", self.constant_epochs)


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run. Immutable; printed at start, saved as `settings.json` in the run folder."""

    data: DataSettings = DataSettings()
    network: NetworkSettings = NetworkSettings()
    loss: LossSettings = LossSettings()
    train: TrainSettings = TrainSettings()

    def __post_init__(self) -> None:
        if self.network.discriminator == "stylegan2":
            found = "pictures of any size" if self.data.preprocess == "none" else self.data.crop_size_px
            rule = f"--stylegan2_size_px ({self.network.stylegan2_size_px}) with --discriminator=stylegan2"
            _require(found == self.network.stylegan2_size_px, "crop_size_px", rule, found)
        elif self.data.preprocess != "none":
            least = self.network.least_side_px()
            rule = f"at least {least} with --discriminator_layers={self.network.discriminator_layers}"
            _require(self.data.crop_size_px >= least, "crop_size_px", rule, self.data.crop_size_px)
        if self.data.preprocess == "none":
            rule = "another than wgangp with --preprocess=none, whose penalty mixes images of equal size"
            _require(self.loss.gan_mode != "wgangp", "gan_mode", rule, self.loss.gan_mode)

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> Settings:
        """Reads what `to_json` wrote. Raises InputError naming `where` if it is not that."""
        try:
            values = json.loads(text)
            return Settings(**{section.name: section.type_(**values[section.name]) for section in SECTIONS})
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(f"{where}: not the settings of a cut_tf run: {error}") from error

    def differences(self, other: Settings) -> list[str]:
        """One line per setting that differs and must not differ between a run and its continuation."""
        lines = []
        for section in SECTIONS:
            for field in dataclasses.fields(section.type_):
                mine = getattr(getattr(self, section.name), field.name)
                theirs = getattr(getattr(other, section.name), field.name)
                if mine != theirs and not field.metadata["free"]:
                    lines.append(f"--{field.name}: {mine!r} against {theirs!r}")
        return lines


@dataclasses.dataclass(frozen=True)
class Section:
    """One part of `Settings`: its attribute name and its class."""

    name: str
    type_: type


SECTIONS = (
    Section("data", DataSettings),
    Section("network", NetworkSettings),
    Section("loss", LossSettings),
    Section("train", TrainSettings),
)
