"""Settings of the networks. Defaults are those of the CUT paper and its official code."""

from __future__ import annotations

import dataclasses

from cut_tf.settings.fields import Checked, require, setting

# Most downsampling layers of the PatchGAN: with 10 it needs crops of 3072 px, and more fit no usual picture.
_MOST_LAYERS = 10
# Noise of a camera at night is below that.
_MOST_FAINT = 64


@dataclasses.dataclass(frozen=True)
class GeneratorSettings(Checked):
    """Which generator, and its size."""

    generator: str = setting("resnet", "generator network", often=True)
    ngf: int = setting(64, "channels after the generator's first convolution", often=True)
    generator_blocks: int = setting(9, "residual blocks of the generator", often=True)
    generator_norm: str = setting("instance", "normalisation in the generator", ("instance", "batch", "none"))

    def _check(self) -> None:
        self._positive("ngf")


@dataclasses.dataclass(frozen=True)
class ResnetSettings(Checked):
    """The resnet generator (Johnson et al., ECCV 2016, as CUT uses it)."""

    recompute_blocks: bool = setting(
        False, "compute the activations of the generator's residual blocks again in the backward pass instead of "
        "keeping them: less memory, more time; with --generator=resnet and --generator_norm=instance", free=True)


@dataclasses.dataclass(frozen=True)
class MobileSettings(Checked):
    """The light generator for phones."""

    mobile_padding: str = setting(
        "repeat", "mobile: what its convolutions see beyond the borders. repeat: the outermost pixels; zeros: a dark "
        "frame, which they learn to answer with a bright one; runs of earlier versions have it", ("repeat", "zeros"))
    mobile_output: str = setting(
        "details", "mobile: how its translation of half the size becomes the output. details: enlarged, and the "
        "picture's details added; fitted: as a gain and an offset of the picture around each place, which keeps its "
        "details in step with the contrast", ("details", "fitted"), same_weights=True)


@dataclasses.dataclass(frozen=True)
class DetailsSettings(Checked):
    """What generators that multiply contrast do to the faintest details."""

    faint_levels: float = setting(
        0.0, "gunet, and mobile with --mobile_output=fitted: details of so many levels of 255 count as noise of the "
        "camera, which is not enhanced. 0: they are enhanced like all others", same_weights=True)

    def _check(self) -> None:
        require(self.faint_levels <= _MOST_FAINT, "faint_levels", f"at most {_MOST_FAINT}", self.faint_levels)


@dataclasses.dataclass(frozen=True)
class GUNetSettings(Checked):
    """The gated U-Net for dehazing."""

    gunet_maps: str = setting(
        "pixels", "gunet: its maps K and B of the haze model. pixels: a value for each pixel; smooth: at half of the "
        "resolution and enlarged, so that adversarial training draws no grid of pixels", ("pixels", "smooth"))


@dataclasses.dataclass(frozen=True)
class SizesSettings(Checked):
    """Pictures whose sides the resnet and stylegan2 generators cannot halve evenly."""

    odd_sizes: str = setting(
        "mirror", "mirror: sides are mirrored up to a multiple of 4 (stylegan2: 2) before the network; official: they "
        "are not, and layers round, as in the official code. The output is cut to the input's size",
        ("mirror", "official"))


@dataclasses.dataclass(frozen=True)
class AECRNetSettings(Checked):
    """The parts of AECR-Net's generator (Wu et al., CVPR 2021, section 3.2)."""

    aecr_shared: bool = setting(True, "aecrnet: one attention block for its six uses, one deformable convolution for "
                                 "its two, as in the official code")
    aecr_mixup: bool = setting(True, "aecrnet: mix early features into the decoder (adaptive mixup)")
    aecr_dfe: bool = setting(True, "aecrnet: deformable convolutions after the blocks (dynamic feature enhancement)")
    aecr_whitening: bool = setting(False, "aecrnet: start with a 3x3 convolution of whitened patches")


@dataclasses.dataclass(frozen=True)
class StyleGAN2Settings(Checked):
    """SinCUT's generator and discriminator (CUT paper, appendix C)."""

    stylegan2_downsamplings: int = setting(1, "times that the stylegan2 generator halves the resolution")
    stylegan2_size_px: int = setting(64, "size of the crops that stylegan2 networks are made for, a power of two. A "
                                      "larger size means fewer channels for the same ngf and ndf. The discriminator "
                                      "takes inputs of this size only")

    def _check(self) -> None:
        require(0 <= self.stylegan2_downsamplings <= 8, "stylegan2_downsamplings", "from 0 to 8",
                self.stylegan2_downsamplings)


@dataclasses.dataclass(frozen=True)
class AntialiasSettings(Checked):
    """Blurred resampling (Zhang, ICML 2019) in the resnet generator and the PatchGAN."""

    antialias_down: bool = setting(True, "blur before downsampling, in generator and discriminator")
    antialias_up: bool = setting(True, "blurred upsampling in the generator instead of transposed convolution")


@dataclasses.dataclass(frozen=True)
class DiscriminatorSettings(Checked):
    """Which discriminator, and its width."""

    discriminator: str = setting("patch", "discriminator network", often=True)
    ndf: int = setting(64, "channels after the discriminator's first convolution")

    def _check(self) -> None:
        self._positive("ndf")


@dataclasses.dataclass(frozen=True)
class PatchGANSettings(Checked):
    """The PatchGAN discriminator (Isola et al., CVPR 2017)."""

    discriminator_layers: int = setting(3, "downsampling layers of the PatchGAN discriminator; 3 sees 70x70 pixels")
    discriminator_norm: str = setting(
        "instance", "normalisation in the discriminator; spectral divides each kernel by its largest singular value "
        "instead of normalising features (Miyato et al., ICLR 2018)", ("instance", "batch", "none", "spectral"))

    def _check(self) -> None:
        self._positive("discriminator_layers")
        require(self.discriminator_layers <= _MOST_LAYERS, "discriminator_layers", f"at most {_MOST_LAYERS}",
                self.discriminator_layers)

    def least_side_px(self) -> int:
        """Smallest side in pixels of an image that the PatchGAN accepts.

        Each downsampling layer halves the image. Each of the last two 4x4 convolutions makes it one pixel smaller, and
        at least one pixel has to remain.
        """
        return 3 * 2**self.discriminator_layers


@dataclasses.dataclass(frozen=True)
class ProjectorSettings(Checked):
    """The patch projector, the CUT paper's two-layer MLP H_l."""

    projector: str = setting("mlp", "patch projector: mlp, or sample, which compares the features themselves",
                              ("mlp", "sample"))
    projector_width: int = setting(256, "channels of the patch projector's two layers")

    def _check(self) -> None:
        self._positive("projector_width")
