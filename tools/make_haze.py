"""Makes a dehazing dataset of clear photographs: python -m tools.make_haze --input=DIR --output=DIR --split=train|test

--split=train: the photographs are shuffled and divided into halves; one half goes to trainA, hazy, the other to trainB
as it is, so that no scene is in both. --split=test: every photograph goes to testA, hazy, and to testB as it is.

Depths are made up, or read from the folder --depth (`cut_tf.data.haze.recipe`, `cut_tf.data.haze.depth_maps`).
--haze_preset chooses a recipe; other flags replace single fields of it: density, colour, patches, dusk, noise, JPEG.
Where the recipe darkens pictures or makes their skies overcast, domain B is so too.

haze_train.jsonl (or haze_test.jsonl) is the manifest: a line with the recipe, then one per picture, with its haze if it
got one. haze_train.csv has the haze alone. Until all is done the pictures wait in a hidden folder of the output; the
same command continues a run that was stopped, at whatever moment. The number of workers changes nothing but the time.
"""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import csv
import dataclasses
import hashlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from absl import flags

import cut_tf
from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.files import only_process, replace_file
from cut_tf.data.haze.depth_maps import find_depth_maps
from cut_tf.data.haze.recipe import HazeRecipe, clear_photograph, divide, haze_photograph
from cut_tf.data.image_files import list_images, read_sizes, write_png
from cut_tf.settings.haze import PRESET_HELP, PRESETS, recipe_of

SPLITS = ("train", "test")
_COLUMNS = ("name", "beta_per_m", "airlight_r", "airlight_g", "airlight_b", "seed")
_JOURNAL, _COMPLETE = "journal.jsonl", "complete"
_NAMED_AT_MOST = 5
_INTERRUPTED = 130
_PNG_END = b"IEND\xaeB`\x82"


class Task(NamedTuple):
    """One picture to write: the photograph, its file relative to the output, and whether it gets haze."""

    source: Path
    file: str
    hazy: bool


def make_dataset(source: Path, output: Path, split: str, recipe: HazeRecipe | None = None, limit: int = 0,
                 workers: int = 0) -> int:
    """Writes `split` of a dataset, or the rest of it if a run with the same arguments was stopped.

    Args:
      source: folder of clear photographs.
      output: folder of the dataset; made if missing.
      split: one of SPLITS.
      recipe: the haze; the default if not given.
      limit: use only so many photographs; 0 uses all.
      workers: threads; 0 means one per CPU core.

    Returns:
      The number of photographs used.

    Raises:
      InputError: if there are too few photographs, one or a depth map cannot be read, the split is there already, or
        the output has part of a split that was made otherwise. If only after some pictures are done, they are kept.
    """
    recipe = recipe or HazeRecipe()
    if split == "test":
        recipe = recipe.for_test_pairs()
    tasks, header = _plan(source, split, recipe, limit, workers)
    # The pictures to translate come last: without them, no part of the split is used.
    results = [output / name for name in (f"haze_{split}.csv", f"haze_{split}.jsonl", f"{split}B", f"{split}A")]
    partial = output / f".{split}_partial"
    try:
        with _alone(partial):
            records = _begun(partial, header, tasks)
            if not (partial / _COMPLETE).exists():
                _check_free(results)
                _start(partial, header, records, split)
                _do(tasks, partial, records, recipe, workers or os.cpu_count() or 1)
                _finish(partial, header, records, split)
            for path in results:
                if (partial / path.name).exists():
                    os.replace(partial / path.name, path)
            shutil.rmtree(partial)
    except OSError as error:
        raise InputError(f"--output must be a folder that can be written, found {error}") from error
    for notice in _notices(records.values()):
        print(notice)
    return len({task.source for task in tasks})


@contextlib.contextmanager
def _alone(partial: Path) -> Iterator[None]:
    """A context in which no other process writes this split. The lock is gone with the process, however it ends.

    Raises:
      InputError: if another process is at work; its files are left alone.
    """
    output = partial.parent
    is_new = not output.exists()
    partial.mkdir(parents=True, exist_ok=True)
    with only_process(partial, f"{partial}: must be written"):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # whatever has files stays
                partial.rmdir()
            if is_new:
                with contextlib.suppress(OSError):
                    output.rmdir()


def _plan(source: Path, split: str, recipe: HazeRecipe, limit: int, workers: int) -> tuple[list[Task], dict]:
    """The pictures to write and the first line of the manifest. Checks all that can be checked without decoding."""
    if min(limit, workers) < 0:
        raise InputError(f"--limit and --workers must be zero or more, found {limit} and {workers}")
    photographs = list_images(source)
    twice = sorted(stem for stem, count in collections.Counter(path.stem for path in photographs).items() if count > 1)
    if twice:
        raise InputError(f"{source}: names without suffix must differ, found several of "
                         f"{', '.join(twice[:_NAMED_AT_MOST])}")
    hazy, clear = divide(photographs, split, recipe.seed, limit)
    if not clear:
        raise InputError(f"--split=train must get two photographs or more, one for each domain, found {len(hazy)}")
    read_sizes([*dict.fromkeys([*hazy, *clear])])
    if recipe.depth:
        # An overcast day changes the sky of clear pictures too, and depths say where the sky is.
        needed = [*hazy, *clear] if recipe.overcast_probability > 0 else hazy
        find_depth_maps(Path(recipe.depth), dict.fromkeys(path.stem for path in needed), recipe.depth_form)
    names = "\n".join(path.name for path in photographs).encode("utf-8", "surrogateescape")
    header = {"cut_tf": cut_tf.__version__, "input": str(source), "split": split, "limit": limit,
              **dataclasses.asdict(recipe), "photographs": len(photographs),
              "photograph_names_sha256": hashlib.sha256(names).hexdigest()}
    return [Task(path, f"{split}{domain}/{path.stem}.png", domain == "A")
            for domain, paths in (("A", hazy), ("B", clear)) for path in paths], header


def _check_free(results: Sequence[Path]) -> None:
    for path in results:
        is_folder = path.is_dir() and not path.is_symlink()
        # An empty folder may be replaced by one, and only by one.
        if os.path.lexists(path) and (not is_folder or path.suffix or any(path.iterdir())):
            found = "a link" if path.is_symlink() else "a file" if not is_folder else "a folder"
            raise InputError(f"{path}: must not exist yet, found {found}")


def _begun(partial: Path, header: Mapping[str, object], tasks: Sequence[Task]) -> dict[str, dict]:
    """Records, by file, of the pictures that an earlier run of the same recipe has written.

    Raises:
      InputError: naming the differences, if that run had another recipe.
    """
    try:
        data = (partial / _JOURNAL).read_bytes()
    except FileNotFoundError:
        return {}
    lines = data.split(b"\n")[:-1]  # without what a killed run may have left of its last line
    try:
        recorded, *records = [json.loads(line) for line in lines]
        # Of a run of an earlier version, whose recipes had fewer fields.
        recorded = {**dataclasses.asdict(HazeRecipe()), **recorded}
        found = {record["file"]: record for record in records}
        differences = [f"{name} {recorded.get(name)!r} against {header.get(name)!r}"
                       for name in [*header, *(name for name in recorded if name not in header)]
                       if recorded.get(name) != header.get(name)]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{partial / _JOURNAL}: must be the journal of a stopped run, found {error}; remove the "
                         f"folder {partial} to start anew") from error
    if differences:
        raise InputError(f"{partial}: was begun with another recipe: {'; '.join(differences)}. Give the same flags to "
                         "continue, or remove that folder to start anew")
    complete = (partial / _COMPLETE).exists()
    return {task.file: found[task.file] for task in tasks
            if task.file in found and (complete or _is_whole(partial / task.file))}


def _is_whole(path: Path) -> bool:
    """Whether a PNG is there up to its end. After a power cut a file can be shorter than what was written to it."""
    if not path.exists() or path.stat().st_size < len(_PNG_END):
        return False
    with open(path, "rb") as file:
        file.seek(-len(_PNG_END), os.SEEK_END)
        return file.read() == _PNG_END


def _start(partial: Path, header: Mapping[str, object], records: Mapping[str, dict], split: str) -> None:
    """Folders of both domains without half-written files, and a journal of whole lines."""
    for domain in ("A", "B"):
        folder = partial / f"{split}{domain}"
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.glob(".*.tmp"):  # of a process killed while it wrote a picture
            path.unlink()
    replace_file(partial / _JOURNAL, _lines([header, *records.values()]))


def _do(tasks: Sequence[Task], partial: Path, records: dict[str, dict], recipe: HazeRecipe, workers: int) -> None:
    """Writes the pictures that have no record yet; adds the records, to the journal too, as pictures are done."""
    left = [task for task in tasks if task.file not in records]
    if records:
        print(f"continuing in {partial}: {len(records)} of {len(tasks)} pictures are there")
    progress = command_line.progress_bar(len(left), "picture") if left else None
    pool = concurrent.futures.ThreadPoolExecutor(workers)
    failure = None
    try:
        futures = [pool.submit(_write, task, partial, recipe) for task in left]
        with open(partial / _JOURNAL, "ab") as journal:
            for future in concurrent.futures.as_completed(futures):
                if future.cancelled():
                    continue
                if future.exception() is not None:
                    # What is being written meanwhile is waited for, so that it need not be done again.
                    failure = failure or future.exception()
                    for other in futures:
                        other.cancel()
                    continue
                record = future.result()
                journal.write(_lines([record]))
                journal.flush()
                records[record["file"]] = record
                progress.add(1)
    finally:
        pool.shutdown(cancel_futures=True)
    if isinstance(failure, InputError):
        if not records:
            shutil.rmtree(partial)
            raise failure
        raise InputError(f"{failure}. {len(records)} of {len(tasks)} pictures are done and kept in {partial}; the same "
                         "command continues") from failure
    if failure is not None:
        raise failure


def _write(task: Task, partial: Path, recipe: HazeRecipe) -> dict[str, object]:
    """Writes one picture; returns its line of the manifest."""
    if task.hazy:
        photograph = haze_photograph(task.source, recipe)
        image, record = photograph.hazy, photograph.record
    else:
        image = clear_photograph(task.source, recipe)
        record = {"source": task.source.name, "width": image.shape[1], "height": image.shape[0]}
    write_png(partial / task.file, image)
    return {"file": task.file, **record}


def _finish(partial: Path, header: Mapping[str, object], records: Mapping[str, dict], split: str) -> None:
    """Manifest and table beside the pictures, then the mark that all is there."""
    ordered = [records[file] for file in sorted(records)]
    replace_file(partial / f"haze_{split}.jsonl", _lines([header, *ordered]))
    table = io.StringIO(newline="")
    rows = [(Path(record["file"]).name, record["beta_per_m"], *record["airlight"], record["seed"])
            for record in ordered if "seed" in record]
    csv.writer(table).writerows([_COLUMNS, *rows])
    replace_file(partial / f"haze_{split}.csv", table.getvalue().encode("utf-8", "surrogateescape"))
    replace_file(partial / _COMPLETE, b"")


def _lines(values: Sequence[Mapping[str, object]]) -> bytes:
    """JSON, a line each. Names that are no UTF-8 are escaped."""
    return "".join(json.dumps(value) + "\n" for value in values).encode("ascii")


def _notices(records: Sequence[Mapping[str, object]]) -> list[str]:
    """What to know about the depth maps that were used."""
    used = [(record["depth"], record) for record in records if record.get("depth")]
    resized = [f"{depth['map']} from {depth['width']}x{depth['height']} to {record['width']}x{record['height']}"
               for depth, record in used if (depth["width"], depth["height"]) != (record["width"], record["height"])]
    zero = [depth["map"] for depth, _ in used if depth["least_m"] == 0]
    notices = []
    for found, text in ((resized, "depth maps were resized to their photograph by nearest"),
                        (zero, "depth maps have pixels of depth 0, which get no haze")):
        if found:
            more = ", ..." if len(found) > _NAMED_AT_MOST else ""
            notices.append(f"note: {len(found)} {text}: {', '.join(sorted(found)[:_NAMED_AT_MOST])}{more}")
    return notices


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Not done on import, because the training flags have some of the same names."""
    flags.DEFINE_string("input", "", "folder of clear photographs", flag_values=flag_values)
    flags.DEFINE_string("output", "", "folder of the dataset; made if missing", flag_values=flag_values)
    flags.DEFINE_enum("split", "train", SPLITS, "train: unpaired halves; test: pairs", flag_values=flag_values)
    flags.DEFINE_integer("seed", 0, "seed of the shuffle and of the haze", flag_values=flag_values)
    flags.DEFINE_integer("limit", 0, "use only so many photographs; 0 uses all", flag_values=flag_values)
    flags.DEFINE_enum("haze_preset", "mild", list(PRESETS), PRESET_HELP, flag_values=flag_values)
    kinds = {bool: flags.DEFINE_bool, int: flags.DEFINE_integer, float: flags.DEFINE_float, str: flags.DEFINE_string}
    for field in _changeable_fields():
        kinds[type(field.default)](field.name, None, f"{field.metadata['help']}. Left out: what --haze_preset says",
                                   flag_values=flag_values)
    flags.DEFINE_integer("workers", 0, "photographs hazed at the same time; 0 means one per CPU core",
                         flag_values=flag_values)


def _changeable_fields() -> list[dataclasses.Field]:
    return [field for field in dataclasses.fields(HazeRecipe) if field.name != "seed"]


def _recipe_from(flag_values: flags.FlagValues) -> HazeRecipe:
    """The recipe that the flags say. Raises InputError if a value is out of its range."""
    given = {field.name: flag_values[field.name].value for field in _changeable_fields()}
    return recipe_of(flag_values.haze_preset, seed=flag_values.seed,
                     **{name: value for name, value in given.items() if value is not None})


def main(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Exit code 0; 2 if flags, photographs or output are not as they must be (see stderr); 130 after Ctrl-C."""
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        for name in ("input", "output"):
            if not flag_values[name].value:
                raise InputError(f"--{name} must be a folder, found ''")
        output, split = Path(flag_values.output), flag_values.split
        count = make_dataset(Path(flag_values.input), output, split, _recipe_from(flag_values), flag_values.limit,
                             flag_values.workers)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nstopped; the same command continues", file=sys.stderr)
        return _INTERRUPTED
    print(f"{output}: {split}A hazy, {split}B clear, from {count} photographs; haze_{split}.jsonl and .csv list the "
          "haze")
    return 0


if __name__ == "__main__":
    define()
    command_line.run(main)
