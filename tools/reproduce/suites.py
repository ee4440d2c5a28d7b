"""The suites of `tools.reproduce`: which rows each compares, and what papers say of the same rows."""

from __future__ import annotations

from typing import NamedTuple

from cut_tf.settings import Settings
from tools.reproduce.budget import CONSTANT_EPOCHS


class Row(NamedTuple):
    """A row of a table.

    Attributes:
      name: in file names and in `--rows`.
      label: in the report.
      flags: of `cut_tf.train`, after those of the base flagfile. {last_layer} stands for the last of the common
        --nce_layers, {batch_size} for the common --batch_size, {teacher} for the --teacher of
        `tools.reproduce`.
      trained: whether it is measured once per seed; else `name` is `input` or one of `cut_tf.baselines.BASELINES`.
      paper: the paper's numbers, in the order of the suite's `paper`; empty if it gives none.
    """

    name: str
    label: str
    flags: tuple[str, ...] = ()
    trained: bool = True
    paper: tuple[str, ...] = ()


class Suite(NamedTuple):
    """What a table compares, and how.

    Attributes:
      rows: of the table, from the top.
      kind: of measurement, a name in `tools.reproduce.KINDS`.
      paper: headings of the columns with the paper's numbers.
      source: a sentence that says where these come from and what else to know of the rows.
      bases: flagfiles of what all rows share, for --dataset=scenes and for others.
      constant_epochs: how many of the EPOCHS epochs of a run have the full learning rate.
      needs_pairs: whether the test pictures must be pairs.
      feature_extractor: of FID and KID, as in `cut_tf.metrics.features`; empty to leave them out.
      checkpoints: whether FID and KID are measured at each kept checkpoint too.
      clear: whether it is measured how much the clear test pictures change.
    """

    rows: tuple[Row, ...]
    kind: str = "training"
    paper: tuple[str, ...] = ()
    source: str = ""
    bases: tuple[str, str] = ("cut_scenes", "cut_dehaze_folder")
    constant_epochs: int = CONSTANT_EPOCHS
    needs_pairs: bool = True
    feature_extractor: str = ""
    checkpoints: bool = False
    clear: bool = False


_DEFAULT = Settings().odcr
_CUT = ("--method=cut", "--nce_weight=1", "--nce_identity_weight=1", "--l1_identity_weight=0", "--noflip_equivariance")
_FASTCUT = ("--method=cut", "--nce_weight=10", "--nce_identity_weight=0", "--l1_identity_weight=0",
            "--flip_equivariance")
_CUT_PAPER = "Park et al., ECCV 2020"

_TENTH = "--nce_weight=0.1"


def _odcr(name: str, label: str, *flags: str, **settings: str) -> Row:
    return Row(name, label, ("--method=odcr", *flags, *(f"--wpnce_{key}={value}" for key, value in settings.items())))


_DEHAZING = Suite((
    Row("input", "hazy input", trained=False),
    Row("dark_channel_prior", "DCP", trained=False),
    Row("cut", "CUT", ("--method=cut",)),
    Row("fastcut", "FastCUT", ("--method=cut", "--nce_weight=10", "--nce_identity_weight=0", "--flip_equivariance")),
    Row("cyclegan", "CycleGAN", ("--method=cyclegan",)),
    _odcr("odcr", f"ODCR ({_DEFAULT.wpnce_roles} roles, {_DEFAULT.wpnce_scale}, {_DEFAULT.wpnce_form} form)"),
    _odcr("odcr_printed_roles", "ODCR, printed roles", roles="printed"),
    _odcr("odcr_softmax", "ODCR, softmax", scale="softmax"),
    _odcr("odcr_max1", "ODCR, max1", scale="max1"),
    _odcr("odcr_sigmoid", "ODCR, sigmoid", scale="sigmoid"),
    _odcr("odcr_normalise_after", "ODCR, normalise after", scale="normalise_after"),
    _odcr("odcr_printed_form", "ODCR, printed form", form="printed"),
    _odcr("odcr_decoupled", "ODCR, decoupled form, max1 (ours)", form="decoupled", scale="max1"),
    _odcr("odcr_tenth", "ODCR, a tenth of the contrast", _TENTH),
    _odcr("odcr_decoupled_tenth", "ODCR, decoupled form, max1 (ours), a tenth of the contrast", _TENTH,
          form="decoupled", scale="max1"),
    _odcr("odcr_literal", "ODCR, as printed", roles="printed", scale="softmax", form="printed"),
))

_ALIGNED = ("cut", "odcr", "odcr_decoupled", "odcr_tenth", "odcr_literal")
_ALIGNMENT = Suite(tuple(row for row in _DEHAZING.rows if row.name in _ALIGNED), "alignment")

_SEEN = "--nce_layers=0,1,3,4,6,8,10,12"
_FEATURES = Suite((
    Row("instance", "resnet, instance norm", ("--generator_norm=instance", _SEEN), trained=False),
    Row("batch", "resnet, batch norm", ("--generator_norm=batch", _SEEN), trained=False),
    Row("none", "resnet, no norm", ("--generator_norm=none", _SEEN), trained=False),
    Row("mobile", "mobile, no norm", ("--generator=mobile", "--generator_norm=none", "--nce_layers=0,1,2,3,4"),
        trained=False),
), "features")

# Seconds of a step and GB of memory, of which reproduce_speed makes the ratios.
_SPEED = Suite((
    Row("cyclegan", "CycleGAN", ("--method=cyclegan",), paper=("0.40", "4.81")),
    Row("cut", "CUT", _CUT, paper=("0.24", "3.33")),
    Row("fastcut", "FastCUT", _FASTCUT, paper=("0.15", "2.25")),
    Row("gcgan", "GcGAN", ("--method=gcgan", "--l1_identity_weight=5")),
), "speed", ("s/step", "GB"), f"Paper: {_CUT_PAPER}, one GPU, 256 px.", ("", ""), needs_pairs=False)


def _ablation(name: str, label: str, *flags: str, identity: bool = True, paper: tuple[str, ...] = ()) -> Row:
    """CUT with other settings than its paper's."""
    return Row(name, label, (*_CUT, *(() if identity else ("--nce_identity_weight=0",)), *flags), paper=paper)


_LAST_LAYER, _FEW = "--nce_layers={last_layer}", "--num_negatives=15"
_ABLATION = Suite((
    _ablation("cut", "CUT", paper=("45.5", "56.4")),
    _ablation("no_identity", "no identity", identity=False),
    _ablation("no_identity_15", "no identity, 15 negatives", _FEW, identity=False),
    _ablation("no_identity_15_last", "no identity, 15 negatives, last layer", _FEW, _LAST_LAYER, identity=False),
    _ablation("last", "last layer", _LAST_LAYER),
    _ablation("internal_external", "internal and external negatives", "--negatives=internal_external"),
    _ablation("external", "external negatives", "--negatives=external"),
    _ablation("external_last", "external negatives, last layer", "--negatives=external", _LAST_LAYER),
), paper=("FID horse2zebra", "FID Cityscapes"), source=(
    f"Rows: those of the ablation of {_CUT_PAPER}, with internal negatives and all layers where a row says nothing "
    "else; other than 15, the negatives of a query are --num_patches less one (255 in the paper). External negatives "
    "come from a queue without the paper's slowly moving encoder."),
    bases=("cut_scenes", "cut_folder"), needs_pairs=False, feature_extractor="random")

_UNPAIRED = Suite((
    Row("input", "source pictures", trained=False),
    Row("cut", "CUT", _CUT, paper=("45.5", "56.4", "76.2")),
    Row("fastcut", "FastCUT", _FASTCUT, paper=("73.4", "68.8", "94.0")),
    Row("cyclegan", "CycleGAN", ("--method=cyclegan",), paper=("77.2", "76.3", "85.9")),
    Row("gcgan", "GcGAN", ("--method=gcgan", "--l1_identity_weight=5")),
    Row("distancegan", "DistanceGAN", ("--method=distancegan", "--l1_identity_weight=0")),
), paper=("FID horse2zebra", "FID Cityscapes", "FID cat2dog"), source=(
    f"Each method with the weights of its paper. Paper: {_CUT_PAPER}, InceptionV3's features, 256 px."),
    bases=("cut_scenes", "cut_folder"), needs_pairs=False, feature_extractor="random", checkpoints=True)


def _aecr(name: str, label: str, paper: str, *flags: str, mixup: bool = True, dfe: bool = True,
          regularized: bool = True) -> Row:
    method = ("--method=aecr",) if regularized else ("--method=paired", "--contrastive_weight=0")
    parts = (f"--{'' if mixup else 'no'}aecr_mixup", f"--{'' if dfe else 'no'}aecr_dfe")
    return Row(name, label, ("--generator=aecrnet", *method, *parts, *flags), paper=(paper,))


_MORE_NEGATIVES, _MORE_POSITIVES = "--contrastive_negatives={batch_size}", "--contrastive_positives={batch_size}"
_AECR = Suite((
    Row("input", "hazy input", trained=False),
    _aecr("base", "base", "33.85", mixup=False, dfe=False, regularized=False),
    _aecr("mixup", "base + mixup", "34.04", dfe=False, regularized=False),
    _aecr("dfe", "base + DFE", "35.50", mixup=False, regularized=False),
    _aecr("dfe_mixup", "base + DFE + mixup", "36.20", regularized=False),
    _aecr("positives", "+ positives only", "36.46", "--contrastive_form=positives"),
    _aecr("full", "+ positives and negatives (1:1)", "37.17"),
    _aecr("rate_1_r", "1:r", "37.41", _MORE_NEGATIVES),
    _aecr("rate_r_1", "r:1", "below 37.17", _MORE_POSITIVES),
    _aecr("rate_r_r", "r:r", "below 37.17", _MORE_POSITIVES, _MORE_NEGATIVES),
), paper=("PSNR, SOTS indoor",), source=(
    "Paper: Wu et al., CVPR 2021. Rates are those of positives to negatives; r is here the batch, from whose pictures "
    "they come. The weight of the regularization is that of the base flagfiles, 0.01, with random features; the "
    "paper's is 0.1, with VGG's."), bases=("aecrnet_scenes", "aecrnet_folder"), constant_epochs=0)


def _haze(name: str, label: str, *flags: str, preset: str = "real") -> Row:
    return Row(name, label, (f"--haze_preset={preset}", *flags))


# What each degradation of the preset real is worth: all of them, and all but one.
_HAZE_ABLATION = Suite((
    Row("input", "hazy input", trained=False),
    Row("dark_channel_prior", "DCP", trained=False),
    _haze("mild", "mild", preset="mild"),
    _haze("reside", "reside", preset="reside"),
    _haze("real", "real"),
    _haze("all", "mild, reside and real in turn", preset="mild,reside,real"),
    _haze("no_dense", "real, no denser than reside", "--optical_depth_max=1.8"),
    _haze("no_dark", "real, bright haze alone", "--airlight_min=0.7"),
    _haze("no_colour", "real, grey haze alone", "--airlight_cast=0"),
    _haze("no_patches", "real, no patches", "--patchy_probability=0"),
    _haze("no_dusk", "real, no dusk", "--gamma_probability=0"),
    _haze("no_noise", "real, no noise", "--noise_probability=0"),
    _haze("no_jpeg", "real, no JPEG", "--jpeg_probability=0"),
    _haze("no_decoupling", "real, haze follows depth", "--decoupled_probability=0"),
    _haze("one_depth", "real, one kind of depths", "--depth_kinds=rise"),
    _haze("no_overcast", "real, no overcast skies", "--overcast_probability=0"),
    _haze("sky_hidden", "real, sky at infinity", "--sky_at_infinity"),
    _haze("no_clear", "real, no pictures without haze", "--clear_probability=0"),
), source=(
    "Rows: what training pictures get. Test pictures are the same for all rows, hazed by the presets of the base "
    "flagfile in turn. Clear: the outputs for the test pictures without haze against these pictures themselves."),
    bases=("haze_ablation", "haze_ablation"), constant_epochs=4, clear=True)

_NEAR = ("--method=paired", "--contrastive_form=positives")
# What a light generator learns from: clear pictures, the outputs of a teacher, features of frozen networks.
_LIGHT = Suite((
    Row("input", "hazy input", trained=False),
    Row("dark_channel_prior", "DCP", trained=False),
    Row("paired", "clear pictures", ("--method=paired",)),
    Row("distill", "pictures of the teacher", ("--method=distill", "--teacher={teacher}")),
    Row("teacher", "clear pictures, near them in the teacher's features",
        (*_NEAR, "--contrastive_features=run:{teacher}", "--contrastive_weight=0.1")),
    Row("hed", "clear pictures, near them in HED's features",
        (*_NEAR, "--contrastive_features=hed", "--contrastive_weight=0.05")),
    Row("hed_ratio", "the same, and far from the hazy ones",
        ("--method=paired", "--contrastive_features=hed", "--contrastive_weight=0.01")),
), source=(
    "Rows: what the light generator learns from. The weights of the feature losses were chosen so that these are about "
    "half as large as the L1 loss."),
    bases=("haze_ablation", "haze_ablation"), constant_epochs=4, clear=True)


SUITES: dict[str, Suite] = {"dehazing": _DEHAZING, "alignment": _ALIGNMENT, "features": _FEATURES, "speed": _SPEED,
                            "ablation": _ABLATION, "unpaired": _UNPAIRED, "aecr-ablation": _AECR,
                            "haze-ablation": _HAZE_ABLATION, "light": _LIGHT}
