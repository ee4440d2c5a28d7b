"""The haze that clear pictures get: its recipe, presets of it, and the settings that change single fields of a preset.

`cut_tf.data.haze.recipe` applies a recipe. Where the degradations come from: dark and coloured airlight, gamma, noise
and JPEG from RIDCP (Wu et al., CVPR 2023) and CORUN (Fang et al., NeurIPS 2024), densities from RESIDE (Li et al., TIP
2019).
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

from cut_tf.settings.fields import Checked, require, setting

DEPTH_KINDS = ("rise", "planes", "ridges", "luminance", "segments", "smooth")
DEPTH_FORMS = ("metric", "inverse")
DEPTH_HELP = ("folder of depth maps with the names of the photographs: grey STEM.png, or STEM.npy of floating-point "
              "numbers [H, W]; empty makes depths up")
DEPTH_FORM_HELP = (
    "what depth maps mean. metric: distances, 16-bit PNG in --depth_scale, .npy in metres; inverse: relative inverse "
    "depths as networks for single pictures give them, in any unit, 8- or 16-bit PNG or .npy, the nearest the "
    "largest; they are stretched to distances of 0 to 160 m")
DEPTH_SCALE_HELP = "metres per level of metric depth maps in PNG files"
NOISE_KINDS = ("colour", "grey", "correlated")
_MOST_JPEG_QUALITY = 100
_OPEN_AT_ZERO = ("depth_scale", "transmission_min", "visibility_min_m", "gamma_min", "jpeg_min")
_RANGES = ("airlight", "transmission", "optical_depth", "gamma", "noise", "jpeg")
_AT_MOST_ONE = ("airlight_max", "airlight_cast", "transmission_max", "nonhomogeneous")


@dataclasses.dataclass(frozen=True)
class HazeRecipe:
    """Everything that the haze of a picture depends on, besides the picture and its name.

    A probability is the share of pictures that get a degradation. Whether a picture gets one changes no other draw, so
    that recipes that differ in one degradation can be compared picture by picture. `seed` is zero or more. The help of
    the other fields says what they mean. Levels are those of 0 to 255.

    Raises:
      InputError: naming the flag, if a value is out of its range.
    """

    seed: int = 0
    beta_min: float = setting(0.0, "least scattering coefficient in 1/m; used with --beta_max")
    beta_max: float = setting(0.0, "greatest scattering coefficient in 1/m; 0 leaves the density to "
                              "--optical_depth_max or --transmission_max")
    airlight_min: float = setting(0.70, "least value of the colour of the haze, 0 to 1")
    airlight_max: float = setting(0.95, "greatest value of the colour of the haze, 0 to 1")
    nonhomogeneous: float = setting(0.0, "0: even haze; up to 1: more and more in patches, with the same mean "
                                    "coefficient")
    depth: str = setting("", DEPTH_HELP)
    depth_scale: float = setting(0.001, DEPTH_SCALE_HELP)
    airlight_cast: float = setting(0.02, "how far each channel of the haze's colour may be from its grey, 0 to 1")
    transmission_min: float = setting(0.25, "least median transmission over what is nearer than the sky: of the "
                                      "densest haze, where neither --beta_max nor --optical_depth_max is given")
    transmission_max: float = setting(0.70, "greatest median transmission over what is nearer than the sky")
    visibility_min_m: float = setting(90.0, "least visibility in metres that --transmission_min may lead to")
    optical_depth_min: float = setting(0.0, "least optical depth of the farthest point below the sky; used with "
                                       "--optical_depth_max")
    optical_depth_max: float = setting(0.0, "greatest optical depth of the farthest point below the sky, beta times "
                                       "its distance, drawn uniformly whatever the metres; 0 does not use it")
    patchy_probability: float = setting(1.0, "share of pictures whose haze is in patches of strength --nonhomogeneous")
    depth_kinds: str = setting(
        "rise", "kinds of depths that are made up for photographs, separated by commas, one drawn for each picture. "
        "rise: thickens towards the top; planes: floor, walls and back of a room; ridges: layers one behind the other; "
        "luminance: bright is far; segments: regions of one colour; smooth: knows nothing of the picture")
    decoupled_probability: float = setting(0.0, "share of pictures whose haze follows random smooth depths instead of "
                                           "their own (DA-HAZE)")
    sky_at_infinity: bool = setting(False, "show nothing but haze where the sky is: at 1000 m or more, or, in "
                                    "photographs without depths, where a smooth bright region hangs from the top")
    overcast_probability: float = setting(0.0, "share of pictures whose sky has the colour of the haze in the clear "
                                          "picture too: an overcast day, whose sky must not be invented")
    clear_probability: float = setting(0.0, "share of training pictures without any haze, which must stay as they are")
    gamma_probability: float = setting(0.0, "share of pictures whose clear version is darkened first, value^gamma in "
                                       "[0, 1], as at dusk")
    gamma_min: float = setting(1.5, "least gamma of --gamma_probability")
    gamma_max: float = setting(3.0, "greatest gamma of --gamma_probability")
    noise_probability: float = setting(0.0, "share of pictures with Gaussian noise before the haze; the clear version "
                                       "has none")
    noise_min: float = setting(2.0, "least standard deviation in levels of --noise_probability")
    noise_max: float = setting(25.0, "greatest standard deviation in levels of --noise_probability")
    noise_kinds: str = setting(
        ",".join(NOISE_KINDS), "kinds of noise, separated by commas, one drawn for each picture. colour: each channel "
        "on its own; grey: one for all channels; correlated: channels with a random correlation")
    jpeg_probability: float = setting(0.0, "share of hazy pictures that are compressed as JPEG after the haze")
    jpeg_min: int = setting(30, "least JPEG quality of --jpeg_probability, 1 to 100")
    jpeg_max: int = setting(95, "greatest JPEG quality of --jpeg_probability, 1 to 100")
    depth_form: str = setting("metric", DEPTH_FORM_HELP, DEPTH_FORMS)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            _check_value(field, getattr(self, field.name))
        for name in _AT_MOST_ONE:
            require(getattr(self, name) <= 1, name, "at most 1", getattr(self, name))
        for name in _OPEN_AT_ZERO:
            require(getattr(self, name) > 0, name, "more than zero", getattr(self, name))
        if self.beta_min > 0 or self.beta_max > 0:
            require(self.beta_min <= self.beta_max, "beta_max", f"--beta_min ({self.beta_min}) or more", self.beta_max)
        require(self.jpeg_max <= _MOST_JPEG_QUALITY, "jpeg_max", f"at most {_MOST_JPEG_QUALITY}", self.jpeg_max)
        for name in _RANGES:
            least, greatest = getattr(self, f"{name}_min"), getattr(self, f"{name}_max")
            require(least <= greatest, f"{name}_min", f"at most --{name}_max ({greatest})", least)

    @property
    def beta_range(self) -> tuple[float, float] | None:
        """Least and greatest coefficient in 1/m; None if each picture's depths decide."""
        return (self.beta_min, self.beta_max) if self.beta_max > 0 else None

    @property
    def optical_depth_range(self) -> tuple[float, float] | None:
        """Least and greatest optical depth of the farthest point below the sky; None if it is not used."""
        return (self.optical_depth_min, self.optical_depth_max) if self.optical_depth_max > 0 else None

    @property
    def changes_clear(self) -> bool:
        """Whether the clear version of a picture may differ from the picture itself."""
        return self.gamma_probability > 0 or self.overcast_probability > 0

    def for_test_pairs(self) -> HazeRecipe:
        """The same with haze in every picture: one without would be its own target, which has no PSNR."""
        return dataclasses.replace(self, clear_probability=0.0)


def _check_value(field: dataclasses.Field, value: Any) -> None:
    name, default = field.name, field.default
    if isinstance(default, str):
        require(isinstance(value, str), name, "text", value)
        require(name != "depth_form" or value in DEPTH_FORMS, name, f"one of {', '.join(DEPTH_FORMS)}", value)
        known = {"depth_kinds": DEPTH_KINDS, "noise_kinds": NOISE_KINDS}.get(name)
        require(known is None or set(value.split(",")) <= set(known or ()), name,
                f"some of {', '.join(known or ())}, separated by commas", value)
    elif isinstance(default, bool):
        require(isinstance(value, bool), name, "true or false", value)
    else:
        kinds = (float, int) if isinstance(default, float) else (int,)
        holds = type(value) in kinds and math.isfinite(value) and value >= 0
        require(holds, name, "zero or more" if len(kinds) > 1 else "an integer, zero or more", value)
        require(not name.endswith("_probability") or value <= 1, name, "at most 1", value)


# RESIDE's indoor set: each channel of A in 0.7 to 1, beta 0.6 to 1.8 on depths relative to the farthest.
_RESIDE = HazeRecipe(airlight_min=0.7, airlight_max=1.0, optical_depth_min=0.6, optical_depth_max=1.8,
                     depth_kinds="planes,segments,rise")
# RIDCP's ranges; haze up to CORUN's density. See docs/data.md for what each is worth.
_REAL = HazeRecipe(
    airlight_min=0.25, airlight_max=1.0, airlight_cast=0.04, optical_depth_min=0.4, optical_depth_max=4.0,
    nonhomogeneous=0.5, patchy_probability=0.3, depth_kinds="rise,planes,ridges,luminance,segments",
    decoupled_probability=0.2, overcast_probability=0.5, clear_probability=0.1,
    gamma_probability=0.5, noise_probability=0.5, jpeg_probability=0.5)
# What a preset is where one haze is asked for: test pictures, tools.make_haze.
PRESETS: dict[str, HazeRecipe] = {"mild": HazeRecipe(), "reside": _RESIDE, "real": _REAL}
# What training pictures get in turn. Real haze is grey at dusk and drifts: for that, mild has recipes of its own.
VARIANTS: dict[str, tuple[HazeRecipe, ...]] = {
    "mild": (HazeRecipe(), HazeRecipe(airlight_min=0.45), HazeRecipe(nonhomogeneous=0.5), HazeRecipe()),
    "reside": (_RESIDE,), "real": (_REAL,)}
PRESET_HELP = (
    "mild: bright haze of moderate density; reside: the densities and colours of RESIDE; real: the degradations of "
    "RIDCP and CORUN, dense to thin, dark, coloured, patchy, with dusk, noise and JPEG, and some pictures without haze")


def recipe_of(preset: str, **changes: Any) -> HazeRecipe:
    """The recipe of a preset with some fields changed. Raises InputError if preset or fields are not valid."""
    require(preset in PRESETS, "haze_preset", f"one of {', '.join(PRESETS)}", preset)
    return dataclasses.replace(PRESETS[preset], **changes)


def _override(name: str) -> Any:
    """A setting that replaces a field of the presets, with the field's help; None leaves the preset's value."""
    field = _RECIPE_FIELDS[name]
    return setting(None, f"{field.metadata['help']}. Replaces what --haze_preset says", kind=type(field.default))


_RECIPE_FIELDS = {field.name: field for field in dataclasses.fields(HazeRecipe)}


@dataclasses.dataclass(frozen=True)
class HazeRecipeSettings(Checked):
    """Haze that is added as pictures are read: `--dataset=hazed:...` and `--dataset=scenes`."""

    haze_preset: str = setting(
        "mild", f"which haze clear pictures get; several, separated by commas, take turns. {PRESET_HELP}", often=True)
    beta_min: float | None = _override("beta_min")
    beta_max: float | None = _override("beta_max")
    airlight_min: float | None = _override("airlight_min")
    airlight_max: float | None = _override("airlight_max")
    nonhomogeneous: float | None = _override("nonhomogeneous")
    airlight_cast: float | None = _override("airlight_cast")
    transmission_min: float | None = _override("transmission_min")
    transmission_max: float | None = _override("transmission_max")
    visibility_min_m: float | None = _override("visibility_min_m")
    optical_depth_min: float | None = _override("optical_depth_min")
    optical_depth_max: float | None = _override("optical_depth_max")
    patchy_probability: float | None = _override("patchy_probability")
    depth_kinds: str | None = _override("depth_kinds")
    decoupled_probability: float | None = _override("decoupled_probability")
    sky_at_infinity: bool | None = _override("sky_at_infinity")
    overcast_probability: float | None = _override("overcast_probability")
    clear_probability: float | None = _override("clear_probability")
    gamma_probability: float | None = _override("gamma_probability")
    gamma_min: float | None = _override("gamma_min")
    gamma_max: float | None = _override("gamma_max")
    noise_probability: float | None = _override("noise_probability")
    noise_min: float | None = _override("noise_min")
    noise_max: float | None = _override("noise_max")
    noise_kinds: str | None = _override("noise_kinds")
    jpeg_probability: float | None = _override("jpeg_probability")
    jpeg_min: int | None = _override("jpeg_min")
    jpeg_max: int | None = _override("jpeg_max")

    def _check(self) -> None:
        known = set(self.haze_preset.split(",")) <= set(PRESETS)
        require(known, "haze_preset", f"some of {', '.join(PRESETS)}, separated by commas", self.haze_preset)
        self.training_recipes()

    def _changes(self) -> dict[str, Any]:
        """The fields of the presets that were given."""
        given = {field.name: getattr(self, field.name) for field in dataclasses.fields(self) if
                 field.name in _RECIPE_FIELDS}
        return {name: value for name, value in given.items() if value is not None}

    def training_recipes(self, varied: bool = True) -> list[HazeRecipe]:
        """The hazes that training pictures get in turn, with seed 0: of the presets, or their variants if `varied`."""
        variants = [VARIANTS[preset] if varied else (PRESETS[preset],) for preset in self.haze_preset.split(",")]
        turns = max(len(recipes) for recipes in variants)
        # The presets take turns, so that each has the same share whatever its number of variants.
        mixed = [recipes[turn % len(recipes)] for turn in range(turns) for recipes in variants]
        return [dataclasses.replace(recipe, **self._changes()) for recipe in mixed]

    def test_recipes(self) -> list[HazeRecipe]:
        """The hazes that test pictures get in turn, with seed 0."""
        return [recipe_of(preset, **self._changes()).for_test_pairs() for preset in self.haze_preset.split(",")]
