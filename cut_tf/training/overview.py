"""What makes a run readable at a glance in TensorBoard: a layout of its curves, its settings as text and as hparams."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from cut_tf.metrics import IN_TRAINING, METRICS
from cut_tf.settings import FIELDS, Settings

# Dashboard "Custom Scalars": title of a group, then of a chart, to regular expressions of the curves in it.
_LAYOUT: Mapping[str, Mapping[str, list[str]]] = {
    "Objective": {"generator and discriminator": ["loss/generator$", "loss/discriminator.*"],
                  "all terms": ["loss/(?!generator$|discriminator)"], "to look at": ["metric/"]},
    "Health": {"gradient norms": ["gradient_norm/"], "learning rates": ["learning_rate/"],
               "outputs equal inputs, or each other": ["alarm/(change_levels|variety_ratio)$"]},
    "Speed": {"seconds": ["speed/step_sec$", "speed/input_wait_sec$"], "pictures a second": ["speed/images_per_sec$"]},
}
_NOT_COMPARED = {"run"}
_PICTURES = ("TensorBoard keeps 10 pictures of each name. `--samples_per_plugin=images=0` shows all that were written, "
             "one every {steps} steps.")


def write_overview(writer: tf.summary.SummaryWriter, settings: Settings) -> None:
    """Writes the layout, the settings as text and as hparams, at step 0.

    Args:
      writer: of the run's events.
      settings: of the run.
    """
    from tensorboard.plugins.custom_scalar import layout_pb2, summary as custom_scalar  # seconds, and only here
    from tensorboard.plugins.hparams import api as hparams

    layout = layout_pb2.Layout(category=[
        layout_pb2.Category(title=title, chart=[
            layout_pb2.Chart(title=chart, multiline=layout_pb2.MultilineChartContent(tag=tags))
            for chart, tags in charts.items()]) for title, charts in _charts(settings).items()])
    with writer.as_default(step=0):
        tf.summary.experimental.write_raw_pb(custom_scalar.pb(layout).SerializeToString())
        tf.summary.text("settings", _as_text(settings_table(settings)))
        tf.summary.text("pictures", _PICTURES.format(steps=settings.train.image_steps))
        hparams.hparams({name: _as_text(value) if isinstance(value, str) else value
                         for name, value in compared_settings(settings).items()},
                        trial_id=_as_text(settings.train.run) or None)


def _as_text(value: str) -> str:
    """The same, but for bytes of a file's name that are no text, which are written as escapes."""
    return value.encode("utf-8", "backslashreplace").decode()


def _charts(settings: Settings) -> dict[str, Mapping[str, list[str]]]:
    """Charts by group: what the run measures on its test pictures first."""
    measured = [*(name for name in METRICS if METRICS[name].in_training), settings.evaluation.distribution_metric]
    quality = {IN_TRAINING[name].label: [f"eval_(ema|raw)/{name}$"] for name in measured if name in IN_TRAINING}
    return {"Quality on the test pictures": quality, **_LAYOUT}


def compared_settings(settings: Settings) -> dict[str, Any]:
    """The settings by which runs are compared: those that are set most often, and all that are not the defaults."""
    changed = settings.changed()
    return {name: "default" if value is None else value for name, value in settings.flat().items()
            if name not in _NOT_COMPARED and (FIELDS[name].metadata["often"] or name in changed)}


def settings_table(settings: Settings) -> str:
    """Markdown: every setting that is not the default, beside the default."""
    rows = [f"| `--{name}` | {_cell(value)} | {_cell(FIELDS[name].default)} |"
            for name, value in settings.changed().items()]
    return "\n".join(["| setting | here | default |", "|---|---|---|", *rows])


def _cell(value: object) -> str:
    return str(value).replace("|", "\\|") if value != "" else "(empty)"
