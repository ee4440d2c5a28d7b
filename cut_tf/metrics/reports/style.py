"""The table of `tools.style_distance`: a translation against the picture whose look was wanted."""

from __future__ import annotations

from pathlib import Path

from cut_tf.common.errors import InputError
from cut_tf.data.image_files import read_image
from cut_tf.metrics import style_distance


def report(source_path: Path, output_path: Path, target_path: Path) -> str:
    """The table. Raises InputError for files that are no pictures, or too small, or of different sizes."""
    source, output, target = (read_image(path) for path in (source_path, output_path, target_path))
    if output.shape != source.shape:
        raise InputError(f"--output must have the size of --input, found {output.shape[1]}x{output.shape[0]} and "
                         f"{source.shape[1]}x{source.shape[0]}")
    least = style_distance.PATCH_PX * max(style_distance.SCALES)
    for path, picture in ((source_path, source), (target_path, target)):
        if min(picture.shape[:2]) < least:
            raise InputError(f"{path}: sides must be at least {least} px, found {picture.shape[1]}x{picture.shape[0]}")
    lines = [f"{'distance to the target':24s} {'input':>8s} {'output':>8s}"]
    rows = [("colour", style_distance.colour_distance, ())]
    rows += [(f"texture at 1/{scale}", style_distance.texture_distance, (scale,)) for scale in style_distance.SCALES]
    for name, distance, arguments in rows:
        lines.append(f"{name:24s} {distance(source, target, *arguments):8.2f} "
                     f"{distance(output, target, *arguments):8.2f}")
    for name, value in style_distance.structure_similarity(output, source).items():
        lines.append(f"{name + ' to the input':24s} {1:8.3f} {value:8.3f}")
    return "\n".join(lines)
