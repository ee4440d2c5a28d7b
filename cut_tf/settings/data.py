"""Settings of the data: where the pictures of both domains come from, and how they become training crops."""

from __future__ import annotations

import dataclasses

from cut_tf.settings.fields import Checked, require, setting
from cut_tf.settings.haze import DEPTH_FORM_HELP, DEPTH_FORMS, DEPTH_HELP, DEPTH_SCALE_HELP


@dataclasses.dataclass(frozen=True)
class DataSettings(Checked):
    """Where the pictures come from and how they become training crops."""

    dataset: str = setting("scenes", "which pictures; a + joins datasets, as in scenes+hazed:CLEAR_DIR", often=True)
    preprocess: str = setting(
        "resize_and_crop",
        "resize_and_crop: to load_size square, then a random crop. scale_width: width to load_size, keeping the "
        "aspect, then a random crop. crop: random crop of the image as it is. zoom_and_crop: shorter side to load_size "
        "at most, then reduced up to 3 times at random, then a random crop (SinCUT). none: the image as it is, cut to "
        "a multiple of 4 (batch 1)",
        ("resize_and_crop", "scale_width", "crop", "zoom_and_crop", "none"), often=True,
    )
    load_size_px: int = setting(286, "size in pixels that the image is resized to before the crop", often=True)
    crop_size_px: int = setting(256, "side in pixels of the square training crop", often=True)
    flip: bool = setting(True, "mirror training images left-right at random")
    quarter_turns: bool = setting(False, "turn training images by 0, 90, 180 or 270 degrees at random (AECR-Net)")
    batch_size: int = setting(
        1, "images of each domain per step, over all replicas together (global batch)", often=True)
    cache_mb: int = setting(1024, "keep decoded images in memory up to this many MiB; 0 keeps none", free=True)
    data_workers: int = setting(0, "images decoded in parallel; 0 means one per CPU core, 2 at least", free=True)
    test_images: int = setting(24, "test images used for metrics during training", free=True)
    test_pairs: bool = setting(
        True, "take a test split whose two sides have the same names as pairs, and measure PSNR and SSIM on them; "
        "--notest_pairs for pictures of different scenes that are only numbered alike", free=True)

    def _check(self) -> None:
        self._positive("load_size_px", "batch_size", "test_images")
        require(bool(self.dataset), "dataset", "a folder or another form that --help lists", self.dataset)
        require(self.crop_size_px >= 16, "crop_size_px", "at least 16", self.crop_size_px)
        if self.preprocess in ("resize_and_crop", "scale_width", "zoom_and_crop"):
            rule = f"at most --load_size_px ({self.load_size_px}) with --preprocess={self.preprocess}"
            require(self.crop_size_px <= self.load_size_px, "crop_size_px", rule, self.crop_size_px)
        if self.preprocess == "none":
            rule = "1 with --preprocess=none, whose images may differ in size"
            require(self.batch_size == 1, "batch_size", rule, self.batch_size)


@dataclasses.dataclass(frozen=True)
class ScenesSettings(Checked):
    """The embedded dataset of rendered scenes: `--dataset=scenes`."""

    scenes_images: int = setting(200, "scenes in each domain of the embedded dataset's training split")
    scenes_size_px: int = setting(128, "side in pixels of the embedded dataset's pictures")

    def _check(self) -> None:
        self._positive("scenes_images")
        require(self.scenes_size_px >= 16, "scenes_size_px", "at least 16", self.scenes_size_px)


@dataclasses.dataclass(frozen=True)
class HazeSettings(Checked):
    """Dehazing benchmarks: `--dataset=haze:...`."""

    crop_border_px: int = setting(
        0, "pixels cut from each side of clear test pictures of --dataset=haze:..., 10 for SOTS indoor", free=True)


@dataclasses.dataclass(frozen=True)
class RecordsSettings(Checked):
    """TFRecord shards: `--dataset=records:DIR`."""

    records_check: bool = setting(
        True, "read all shards of --dataset=records:DIR before the first step, and compare their checksums; without "
        "it, only their lengths, and each picture's checksum when it is read", free=True)


@dataclasses.dataclass(frozen=True)
class HazedSettings(Checked):
    """Clear photographs that get haze as they are read: `--dataset=hazed:...`."""

    haze_variants: int = setting(4, "number of different hazes that each photograph of --dataset=hazed:... gets",
                                 often=True)
    depth: str = setting("", f"{DEPTH_HELP}. Test photographs have theirs in the same folder")
    depth_scale: float = setting(0.001, DEPTH_SCALE_HELP)
    depth_form: str = setting("metric", DEPTH_FORM_HELP, DEPTH_FORMS)

    def _check(self) -> None:
        self._positive("haze_variants", "depth_scale")
