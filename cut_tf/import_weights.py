"""Makes the folder of a run from weights of the official PyTorch code, without PyTorch.

    python -m cut_tf.import_weights --input=latest_net_G.pth --output=DIR

With --projector=latest_net_F.pth and --discriminator=latest_net_D.pth the run has what training goes on with. Files are
.pth of either format, or .safetensors. What a network is, is found from the names and shapes of its weights.
"""

from __future__ import annotations

import sys
from pathlib import Path

from absl import flags as absl_flags

from cut_tf import command_line, flags
from cut_tf.common.errors import InputError
from cut_tf.common.files import check_can_write

_INPUT = absl_flags.DEFINE_string(
    "input", None, "file of the generator, such as latest_net_G.pth (CUT) or latest_net_G_A.pth (CycleGAN)",
    required=True)
_OUTPUT = absl_flags.DEFINE_string("output", None, "folder of the run that is written, new or empty", required=True)
_DISCRIMINATOR = absl_flags.DEFINE_string("discriminator", "", "file of the discriminator, for training: "
                                          "latest_net_D.pth, or latest_net_D_A.pth")
_PROJECTOR = absl_flags.DEFINE_string("projector", "", "file of CUT's patch projector, for training: latest_net_F.pth")
_BACKWARD_GENERATOR = absl_flags.DEFINE_string(
    "backward_generator", "", "file of CycleGAN's other generator, for training: latest_net_G_B.pth")
_BACKWARD_DISCRIMINATOR = absl_flags.DEFINE_string(
    "backward_discriminator", "", "file of CycleGAN's other discriminator, for training: latest_net_D_B.pth")
_NCE_LAYERS = absl_flags.DEFINE_string(
    "nce_layers", "", "stages of the generator that --projector was trained on, which files do not tell; empty: the "
    "official 0,4,8,12,16, for SinCUT 0,2,4")


def _files() -> dict[str, Path]:
    """Name of each network to its file."""
    from cut_tf.official.run_folders import NETWORKS

    if _NCE_LAYERS.value and not _PROJECTOR.value:
        raise InputError(f"--nce_layers must not be given without --projector, found {_NCE_LAYERS.value!r}")
    given = {flag: absl_flags.FLAGS[flag].value for flag in NETWORKS}
    return {NETWORKS[flag]: Path(value) for flag, value in given.items() if value}


def main(argv: list[str]) -> int:
    """Exit code 0, or 2 if flags, files or disk are not as they must be (the reason is printed on stderr)."""
    command_line.log_to_stdout()
    try:
        if len(argv) > 1:
            raise InputError(f"arguments must be flags, found {' '.join(argv[1:])}")
        check_can_write(Path(_OUTPUT.value), f"--output={_OUTPUT.value}")
        command_line.start_tensorflow()
        from cut_tf.official.run_folders import import_run

        imported = import_run(_files(), Path(_OUTPUT.value), _NCE_LAYERS.value)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print("What differs from the defaults:", *(f"  {line}" for line in flags.changed_lines(imported.settings)),
          sep="\n")
    for note in imported.notes:
        print(f"note: {note}")
    print(f"written: {_OUTPUT.value}, a run for translate, evaluate and export, and for train --init_from")
    return 0


def run() -> None:
    """Console-script entry."""
    command_line.run(main)


if __name__ == "__main__":
    run()
