"""Every setting of a run, with its default, its unit and the check of its value.

One frozen dataclass, a section, for each part of the program that reads settings. A setting is written once: its field
carries the help text, and `cut_tf/flags.py` makes the flag from it. Field, flag and JSON key have the same name, and no
two sections share one. Names end in their unit (`_px`, `_steps`, `_epochs`, `_mb`, `_weight`).
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any

from cut_tf.common.errors import InputError
from cut_tf.settings.data import DataSettings, HazedSettings, HazeSettings, RecordsSettings, ScenesSettings
from cut_tf.settings.fields import require
from cut_tf.settings.haze import HazeRecipeSettings
from cut_tf.settings.losses import (
    ContrastiveSettings,
    GANSettings,
    IdentitySettings,
    MirroringSettings,
    PatchNCESettings,
)
from cut_tf.settings.methods import (
    CycleGANSettings,
    DistanceGANSettings,
    DistillSettings,
    GcGANSettings,
    ODCRSettings,
    PoolSettings,
    RegressionSettings,
)
from cut_tf.settings.networks import (
    AECRNetSettings,
    AntialiasSettings,
    DetailsSettings,
    DiscriminatorSettings,
    GeneratorSettings,
    GUNetSettings,
    MobileSettings,
    PatchGANSettings,
    ProjectorSettings,
    ResnetSettings,
    SizesSettings,
    StyleGAN2Settings,
)
from cut_tf.settings.training import DeviceSettings, EvaluationSettings, OptimizerSettings, TrainSettings


@dataclasses.dataclass(frozen=True)
class Settings:
    """All settings of a run. Immutable; saved as `settings.json` in the run folder."""

    train: TrainSettings = TrainSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    devices: DeviceSettings = DeviceSettings()
    evaluation: EvaluationSettings = EvaluationSettings()
    data: DataSettings = DataSettings()
    scenes: ScenesSettings = ScenesSettings()
    haze: HazeSettings = HazeSettings()
    hazed: HazedSettings = HazedSettings()
    records: RecordsSettings = RecordsSettings()
    haze_recipe: HazeRecipeSettings = HazeRecipeSettings()
    generator: GeneratorSettings = GeneratorSettings()
    resnet: ResnetSettings = ResnetSettings()
    sizes: SizesSettings = SizesSettings()
    antialias: AntialiasSettings = AntialiasSettings()
    mobile: MobileSettings = MobileSettings()
    gunet: GUNetSettings = GUNetSettings()
    details: DetailsSettings = DetailsSettings()
    aecrnet: AECRNetSettings = AECRNetSettings()
    stylegan2: StyleGAN2Settings = StyleGAN2Settings()
    discriminator: DiscriminatorSettings = DiscriminatorSettings()
    patchgan: PatchGANSettings = PatchGANSettings()
    projector: ProjectorSettings = ProjectorSettings()
    gan: GANSettings = GANSettings()
    patch_nce: PatchNCESettings = PatchNCESettings()
    mirroring: MirroringSettings = MirroringSettings()
    identity: IdentitySettings = IdentitySettings()
    contrastive: ContrastiveSettings = ContrastiveSettings()
    pool: PoolSettings = PoolSettings()
    cyclegan: CycleGANSettings = CycleGANSettings()
    gcgan: GcGANSettings = GcGANSettings()
    distancegan: DistanceGANSettings = DistanceGANSettings()
    odcr: ODCRSettings = ODCRSettings()
    regression: RegressionSettings = RegressionSettings()
    distill: DistillSettings = DistillSettings()

    def __post_init__(self) -> None:
        data, preprocess = self.data, self.data.preprocess
        if self.discriminator.discriminator == "stylegan2":
            found = "pictures of any size" if preprocess == "none" else data.crop_size_px
            rule = f"--stylegan2_size_px ({self.stylegan2.stylegan2_size_px}) with --discriminator=stylegan2"
            require(found == self.stylegan2.stylegan2_size_px, "crop_size_px", rule, found)
        elif preprocess != "none":
            least = self.patchgan.least_side_px()
            rule = f"at least {least} with --discriminator_layers={self.patchgan.discriminator_layers}"
            require(data.crop_size_px >= least, "crop_size_px", rule, data.crop_size_px)
        if preprocess == "none":
            rule = "a mode other than wgangp with --preprocess=none, since its penalty mixes images of equal size"
            require(self.gan.gan_mode != "wgangp", "gan_mode", rule, self.gan.gan_mode)
        networks = (self.generator.generator, self.generator.generator_norm)
        require(not self.resnet.recompute_blocks or networks == ("resnet", "instance"), "recompute_blocks",
                "false unless --generator=resnet and --generator_norm=instance",
                f"true with {networks[0]} and {networks[1]}")
        require(bool(self.distill.teacher) == (self.train.method == "distill"), "teacher",
                "the folder of a run with --method=distill, and only with it", self.distill.teacher)

    @staticmethod
    def of(**values: Any) -> Settings:
        """Settings with these values, each under its own name, and defaults for all others.

        Raises:
          TypeError: if a name is not that of a setting.
          InputError: for bad values and combinations.
        """
        return Settings().having(**values)

    def having(self, **values: Any) -> Settings:
        """These settings with some values replaced, each under its own name. Raises as `of` does."""
        unknown = sorted(set(values) - set(OWNERS))
        if unknown:
            raise TypeError(f"not settings: {', '.join(unknown)}")
        changed = {}
        for section in dict.fromkeys(OWNERS[name] for name in values):
            own = {name: value for name, value in values.items() if OWNERS[name] == section}
            changed[section] = dataclasses.replace(getattr(self, section), **own)
        return dataclasses.replace(self, **changed)

    def flat(self) -> dict[str, Any]:
        """All values by the settings' own names, in the order of the sections."""
        return {name: getattr(getattr(self, section), name) for name, section in OWNERS.items()}

    def changed(self) -> dict[str, Any]:
        """The values of `flat` that differ from the defaults."""
        return {name: value for name, value in self.flat().items() if value != FIELDS[name].default}

    def to_json(self) -> str:
        """A JSON object of the sections, each an object of its settings."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @staticmethod
    def from_json(text: str, where: str) -> Settings:
        """Reads what `to_json` of this or an earlier version wrote. Earlier versions had fewer and larger sections.

        Args:
          text: a JSON object of sections. The names of the sections do not matter, since no two settings share a
            name. Missing settings get their default, or the value that earlier versions had built in.
          where: the file, for messages.

        Raises:
          InputError: if `text` is anything else.
        """
        try:
            sections = json.loads(text)
            if "train" not in sections:
                raise ValueError("no section is called train")
            values = {name: value for section in sections.values() for name, value in section.items()}
            if values.get("generator") == "mobile":
                # What the light generator did before there was a choice.
                values.setdefault("mobile_padding", "zeros")
            return Settings.of(**values)
        except (ValueError, AttributeError, TypeError) as error:
            raise InputError(f"{where}: not the settings of a cut_tf run: {error}") from error

    def differences(self, other: Settings) -> list[str]:
        """One line for each setting that differs and that a continued run has to keep."""
        theirs = other.flat()
        return [f"--{name}: {value!r} against {theirs[name]!r}" for name, value in self.flat().items()
                if value != theirs[name] and not FIELDS[name].metadata["free"]]


# Name of a section to its class.
SECTIONS: dict[str, type] = {section.name: type(section.default) for section in dataclasses.fields(Settings)}
# Name of a setting to its dataclass field.
FIELDS: dict[str, dataclasses.Field] = {
    field.name: field for type_ in SECTIONS.values() for field in dataclasses.fields(type_)}
# Name of a setting to the name of its section.
OWNERS: dict[str, str] = {field.name: name for name, type_ in SECTIONS.items() for field in dataclasses.fields(type_)}


def names_in(uses: Iterable[str]) -> Mapping[str, str]:
    """Resolves the list of settings that a row of a table declares.

    Args:
      uses: names of settings; "SECTION.*" stands for all of a section.

    Returns:
      Name of each setting to the name of its section, in the order of the sections.

    Raises:
      KeyError: if a name is neither a setting nor "SECTION.*".
    """
    asked = set(uses)
    unknown = asked - {f"{section}.*" for section in SECTIONS} - set(OWNERS)
    if unknown:
        raise KeyError(f"neither sections nor settings: {', '.join(sorted(unknown))}")
    return {name: section for name, section in OWNERS.items() if {name, f"{section}.*"} & asked}
