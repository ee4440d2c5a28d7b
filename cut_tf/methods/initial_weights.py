"""The weights that training begins with, taken from another run: fine-tuning."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import tensorflow as tf

from cut_tf import compat
from cut_tf.checkpoints import CheckpointStore, read_settings, run_and_step
from cut_tf.common.errors import InputError
from cut_tf.methods import METHODS
from cut_tf.settings import Settings

if TYPE_CHECKING:
    from cut_tf.methods.base import TranslationMethod

_LOG = logging.getLogger(__name__)
_GENERATOR, _PROJECTOR = "generator", "projector"


def take_weights(method: TranslationMethod, run: str) -> None:
    """Sets the weights of every network that both the method and a run have to those of the run's newest checkpoint.

    Running means begin at the generator's weights; optimizers and all else begin anew. A discriminator or a head of
    another kind begins anew as well, and is named in the log.

    Args:
      method: its networks are built.
      run: DIR, or DIR@STEP for one checkpoint.

    Raises:
      InputError: if it is no run, or a network of it has other weights; no weight is changed then.
    """
    folder, step = run_and_step(run)
    store = CheckpointStore(folder, keep=1, writes=False)
    try:
        step = store.find("last") if step is None else store.check(step)
    except InputError as error:
        raise InputError(f"--init_from={run}: {error}") from error
    theirs = store.shapes(step)
    if _reads_projector(method.settings) != _reads_projector(read_settings(folder, "--init_from")):
        # ODCR's has orthonormal kernels, CUT's has not, and their names are the same.
        theirs = {key: shape for key, shape in theirs.items() if not key.startswith(f"{_PROJECTOR}/")}
    taken: dict[str, tf.Variable] = {}
    anew = []
    for name, network in method.networks.items():
        ours = {f"{name}/{key}": variable for key, variable in compat.named_weights(network).items()}
        its = {key: shape for key, shape in theirs.items() if key.startswith(f"{name}/")}
        if name != _GENERATOR and not ours.keys() & its.keys():
            anew += [name] if ours else []
            continue
        _check(run, name, {key: tuple(variable.shape) for key, variable in ours.items()}, its)
        taken.update(ours)
    store.restore(taken, step, partial=True)
    if method.ema_generator is not None:
        means = compat.named_weights(method.ema_generator)
        store.restore({f"{_GENERATOR}/{key}": mean for key, mean in means.items()}, step, partial=True)
    _LOG.info("begins with the weights of %s, step %d%s", folder, step,
              f"; not of {', '.join(anew)}, which it has not" if anew else "")


def _reads_projector(settings: Settings) -> bool:
    """Whether the method of these settings has CUT's patch projector."""
    return "projector.*" in METHODS[settings.train.method].uses


def _check(run: str, name: str, ours: dict[str, tuple], theirs: dict[str, tuple]) -> None:
    """Raises InputError unless the weights have the same names and shapes."""
    if not theirs:
        raise InputError(f"--init_from={run}: must be a run with a {name}, found none in its checkpoint")
    differing = [f"{key} is {list(ours[key])} here and {list(theirs[key])} there" for key in ours
                 if key in theirs and ours[key] != theirs[key]]
    differing += [f"{key} is only here" for key in ours if key not in theirs]
    differing += [f"{key} is only there" for key in theirs if key not in ours]
    if differing:
        raise InputError(f"--init_from={run}: must be a run with the same {name}, found that {differing[0]}"
                         + (f", and {len(differing) - 1} more differences" if len(differing) > 1 else ""))
