"""How much a sequence of pictures flickers: the change from frame to frame, of outputs against inputs."""

from __future__ import annotations

import numpy as np


class TemporalChange:
    """Mean absolute change between consecutive frames, in levels of 0 to 255.

    A still scene changes by its sensor noise alone. If the outputs change more than that, they flicker.
    """

    def __init__(self) -> None:
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._changes: list[tuple[float, float]] = []

    def add(self, source: np.ndarray, output: np.ndarray) -> None:
        """The next frame, uint8 [H, W, 3] each. A frame of another size starts a new sequence."""
        pair = (source.astype(np.float64), output.astype(np.float64))
        if self._last is not None and self._last[0].shape == pair[0].shape and self._last[1].shape == pair[1].shape:
            self._changes.append(tuple(float(np.mean(np.abs(new - old))) for new, old in zip(pair, self._last)))
        self._last = pair

    def result(self) -> tuple[float, float] | None:
        """Means over all changes of inputs and outputs; None if no two frames followed each other."""
        if not self._changes:
            return None
        sources, outputs = np.mean(self._changes, axis=0)
        return float(sources), float(outputs)


def noise_gain(translate: object, picture: np.ndarray, noise_levels: float, frames: int = 4, seed: int = 0) -> float:
    """Change of the output of a still picture with sensor noise, as a multiple of the input's change.

    Args:
      translate: uint8 [H, W, 3] to the same.
      picture: uint8 [H, W, 3].
      noise_levels: standard deviation of the Gaussian noise, independent per frame, pixel and channel.
      frames: two or more.
      seed: of the noise.
    """
    rng = np.random.default_rng(seed)
    change = TemporalChange()
    for _ in range(frames):
        noisy = np.clip(np.round(picture + rng.normal(0, noise_levels, picture.shape)), 0, 255).astype(np.uint8)
        change.add(noisy, translate(noisy))
    source, output = change.result()
    return output / source
