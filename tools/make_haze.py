"""Makes a dehazing dataset of clear photographs: python -m tools.make_haze --input=DIR --output=DIR --split=train|test

Photographs have no depth, so the haze follows a made-up one: it thickens towards the top of the picture and knows
nothing of the objects in it (`cut_tf.data.haze.estimate_depth_like`). Good enough to learn from and to compare methods
with each other; not a measure of how well real haze is removed.

--split=train: the photographs are shuffled and divided into halves; one half goes to trainA, hazy, the other to trainB
as it is, so that no scene is in both. --split=test: every photograph goes to testA, hazy, and to testB as it is.
haze_train.csv or haze_test.csv says which haze each picture got.
"""

from __future__ import annotations

import csv
import hashlib
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import flags

from cut_tf import command_line
from cut_tf.data import haze
from cut_tf.data.image_files import list_images, read_image, write_png
from cut_tf.errors import InputError

SPLITS = ("train", "test")
_COLUMNS = ("name", "beta_per_m", "airlight_r", "airlight_g", "airlight_b", "seed")
_PROGRESS_PICTURES = 20


class HazyPicture(NamedTuple):
    """uint8 [H, W, 3] with haze, and the haze."""

    image: np.ndarray
    parameters: haze.HazeParameters


def add_random_haze(image: np.ndarray, seed: int, name: str) -> HazyPicture:
    """Haze that depends on the seed, the name of the file and the size of the picture alone.

    Args:
      image: uint8 [H, W, 3].
      seed: zero or more.
      name: file name of the photograph, with its suffix, without its folder.
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
    rng = np.random.default_rng([seed, int.from_bytes(digest[:8], "little")])
    depth_m = haze.estimate_depth_like(image.shape[0], image.shape[1], rng)
    parameters = haze.sample_haze(rng, depth_m)
    return HazyPicture(haze.add_haze(image, depth_m, parameters.beta_per_m, parameters.airlight), parameters)


def divide(photographs: Sequence[Path], split: str, seed: int, limit: int = 0) -> tuple[list[Path], list[Path]]:
    """The photographs to be hazed and those to stay clear, in the order of a shuffle.

    Every second one of the shuffled photographs is hazed for training, so the halves of a limited set are parts of
    the halves of the whole set.

    With a `limit` above 0, only so many of the shuffled photographs are used.
    """
    order = np.random.default_rng(seed).permutation(len(photographs))
    chosen = [photographs[index] for index in order[:limit or None]]
    return (chosen, chosen) if split == "test" else (chosen[0::2], chosen[1::2])


def make_dataset(source: Path, output: Path, split: str, seed: int = 0, limit: int = 0) -> int:
    """Writes `split` of a dataset; returns the number of photographs used.

    The pictures are written to a hidden folder in `output` and moved to their places when all are there.

    Raises:
      InputError: if there are too few photographs, one cannot be read, or the split is there already.
    """
    if min(seed, limit) < 0:
        raise InputError(f"--seed and --limit must be zero or more, found {seed} and {limit}")
    photographs = list_images(source)
    stems = [path.stem for path in photographs]
    twice = sorted({stem for stem in stems if stems.count(stem) > 1})
    if twice:
        raise InputError(f"{source}: names without suffix must differ, found several of {', '.join(twice[:5])}")
    hazy, clear = divide(photographs, split, seed, limit)
    if not clear:
        raise InputError(f"--split=train must get two photographs or more, one for each domain, found {len(hazy)}")
    results = [output / f"haze_{split}.csv", output / f"{split}B", output / f"{split}A"]
    try:
        for path in results:
            if path.is_file() or (path.is_dir() and any(path.iterdir())):
                raise InputError(f"{path}: must not exist yet, found {'a file' if path.is_file() else 'files in it'}")
        output.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{split}_", dir=output) as temporary:
            _write(Path(temporary), hazy, clear, split, seed)
            # A holds the pictures to translate and comes last: without it, no part of the split is used.
            for path in results:
                os.replace(Path(temporary) / path.name, path)
    except OSError as error:
        raise InputError(f"--output must be a folder that can be written, found {error}") from error
    return len({*hazy, *clear})


def _write(folder: Path, hazy: Sequence[Path], clear: Sequence[Path], split: str, seed: int) -> None:
    """Both domains and the table, into an empty folder."""
    rows = []
    for domain, photographs in (("A", hazy), ("B", clear)):
        (folder / f"{split}{domain}").mkdir()
        for done, path in enumerate(photographs, start=1):
            name, image = f"{path.stem}.png", read_image(path)
            if domain == "A":
                image, parameters = add_random_haze(image, seed, path.name)
                rows.append((name, parameters.beta_per_m, *map(float, parameters.airlight), seed))
            write_png(folder / f"{split}{domain}" / name, image)
            if done % _PROGRESS_PICTURES == 0 or done == len(photographs):
                end = "\r" if sys.stdout.isatty() and done < len(photographs) else "\n"
                print(f"{split}{domain}: {done} of {len(photographs)} pictures", end=end, flush=True)
    with open(folder / f"haze_{split}.csv", "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([_COLUMNS, *sorted(rows)])


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Not done on import, because the training flags have a `seed` too."""
    flags.DEFINE_string("input", "", "folder of clear photographs", flag_values=flag_values)
    flags.DEFINE_string("output", "", "folder of the dataset; made if missing", flag_values=flag_values)
    flags.DEFINE_enum("split", "train", SPLITS, "train: unpaired halves; test: pairs", flag_values=flag_values)
    flags.DEFINE_integer("seed", 0, "seed of the shuffle and of the haze", flag_values=flag_values)
    flags.DEFINE_integer("limit", 0, "use only so many photographs; 0 uses all", flag_values=flag_values)


def main(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Exit code 0, or 2 if flags, photographs or output are not as they must be (told on stderr)."""
    try:
        if len(argv) > 1:
            raise InputError(f"everything must be given as a flag, found {' '.join(argv[1:])}")
        for name in ("input", "output"):
            if not flag_values[name].value:
                raise InputError(f"--{name} must be a folder, found ''")
        output, split = Path(flag_values.output), flag_values.split
        count = make_dataset(Path(flag_values.input), output, split, flag_values.seed, flag_values.limit)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"{output}: {split}A hazy, {split}B clear, from {count} photographs; haze_{split}.csv lists the haze")
    return 0


if __name__ == "__main__":
    define()
    command_line.run(main)
