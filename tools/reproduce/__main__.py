"""Measures all that a table compares: python -m tools.reproduce --suite=SUITE --output=DIR

    dehazing         CUT, FastCUT and forms of ODCR, by PSNR, SSIM, CIEDE2000
    ablation         CUT with other negatives, layers and identity terms (its paper's ablation); FID and KID too
    unpaired         CUT, FastCUT, CycleGAN, GcGAN, DistanceGAN by FID and KID, at the last and the best checkpoint
    aecr-ablation    the parts of AECR-Net, and the rates of positives and negatives
    alignment        what each term of the loss of CUT and ODCR asks of the output picture, along a run: towards the
                     truth, out of the haze, back to the content
    features         how well hazy and clear pictures can be told apart in the layers of untrained encoders
    haze-ablation    what each degradation of hazed training pictures is worth (--haze_preset=real), by PSNR, SSIM,
                     CIEDE2000, and by how little clear pictures change
    light            what a light generator learns from: clear pictures, those of --teacher, features of frozen networks
    speed            seconds and memory of training steps, as ratios to CycleGAN

Each run is a process of its own. Trained rows have the same number of steps: --steps, or what fits into
--budget_minutes by a calibration at the start, or that of the base flagfile. What is there, at any moment:

    OUTPUT/README.md, pictures.png      the table and the test pictures of all runs that are finished
    OUTPUT/results/ROW_seedK.json       what was measured of a run, with all its settings; never done again
    OUTPUT/pictures/ROW_seedK/          its first test pictures at full size
    OUTPUT/runs/ROW_seedK, logs/ROW_seedK.log   the run, and what it printed
    OUTPUT/plan.json                    what was asked for; other flags for the same folder are refused

It may be interrupted or killed: the same command goes on, also within a run. `tools.reproduce.suites` has the tables.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags

from cut_tf import command_line
from cut_tf.common.errors import InputError
from cut_tf.common.registry import Row
from tools.reproduce.budget import EPOCHS
from tools.reproduce.folder import Options
from tools.reproduce.suites import SUITES

KINDS = {"training": Row("tools.reproduce.training:TrainingReproduction", "trains and compares"),
         "alignment": Row("tools.reproduce.alignment:AlignmentReproduction", "trains, and looks at gradients"),
         "features": Row("tools.reproduce.features:FeaturesReproduction", "classifies features"),
         "speed": Row("tools.reproduce.speed:SpeedReproduction", "times steps")}
_INTERRUPTED = 130


def define(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines the flags. Not done on import, because the training flags have some of the same names."""
    flags.DEFINE_enum("suite", "dehazing", sorted(SUITES), "what to compare", flag_values=flag_values)
    flags.DEFINE_string("dataset", "scenes", "scenes or rooms (no download; with rooms give --base); a folder with "
                        "trainA (source, hazy), trainB (target, clear), testA and testB, with the same names where "
                        "they are to be pairs; or haze:TRAIN_DIR,TEST_DIR", flag_values=flag_values)
    flags.DEFINE_string("output", "", "folder of the results; made if missing", flag_values=flag_values)
    flags.DEFINE_list("seeds", ["0", "1", "2"], "seeds of the runs of each trained row; with --suite=speed the "
                      "repeats", flag_values=flag_values)
    flags.DEFINE_list("rows", [], "names of rows of the suite; empty means all", flag_values=flag_values)
    flags.DEFINE_string("base", "", "flagfile of cut_tf.train with what all rows share, a path or a name; empty means "
                        "the suite's own for scenes or for others; with --suite=speed none", flag_values=flag_values)
    flags.DEFINE_integer("steps", 0, f"steps of each run, a multiple of {EPOCHS}; 0 takes those of the base flagfile. "
                         "With --suite=speed the steps that are timed, 0 for 5", flag_values=flag_values)
    flags.DEFINE_float("budget_minutes", 0.0, "time for everything; sets the steps of all runs by a calibration",
                       flag_values=flag_values)
    flags.DEFINE_multi_string("set", [], "NAME=VALUE, a flag of cut_tf.train for all runs, after those of the base "
                              "flagfile and before those of the row; may be repeated", flag_values=flag_values)
    flags.DEFINE_string("feature_extractor", "", "features of FID and KID as for cut_tf.evaluate: inception, random, "
                        "run:DIR, a SavedModel; empty means random in the suites ablation and unpaired, and no FID in "
                        "the others", flag_values=flag_values)
    flags.DEFINE_string("teacher", "", "folder of the run that rows of --suite=light learn from",
                        flag_values=flag_values)


def _options(flag_values: flags.FlagValues) -> Options:
    try:
        seeds = tuple(int(seed) for seed in flag_values.seeds)
    except ValueError as error:
        found = ",".join(flag_values.seeds)
        raise InputError(f"--seeds must be integers with commas between, found {found!r}") from error
    return Options(flag_values.suite, flag_values.dataset, Path(flag_values.output), seeds, tuple(flag_values.rows),
                   flag_values.base, flag_values.steps, flag_values.budget_minutes, tuple(flag_values.set),
                   flag_values.feature_extractor, flag_values.teacher)


def main(argv: Sequence[str], flag_values: flags.FlagValues = flags.FLAGS) -> int:
    """Exit code 0; 1 if a run failed; 2 for bad flags or files; 130 after Ctrl-C or SIGTERM (see stderr)."""
    command_line.start_tensorflow()
    from tools.reproduce import runs

    previous = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        options = _options(flag_values)
        reproduction = KINDS[SUITES[options.suite].kind](options)
        done = reproduction.work()
    except (InputError, runs.RunError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, InputError) else 1
    except KeyboardInterrupt:
        print("\nstopped; the same command continues", file=sys.stderr)
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, previous)
    print(reproduction.table)
    print(f"{options.output / 'README.md'}: {done} runs done now")
    return 0


if __name__ == "__main__":
    define()
    command_line.run(main)
