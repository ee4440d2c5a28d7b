"""What a run tells TensorBoard at its start, read back by TensorBoard's own reader of events."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from cut_tf.settings import Settings
from cut_tf.training import callbacks, overview
from cut_tf.training.callbacks import make_writer
from cut_tf.training.trainer import Run


def _events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder / "events"), size_guidance={"tensors": 0}).Reload()


def _text(events: EventAccumulator, tag: str) -> str:
    (value,) = events.Tensors(f"{tag}/text_summary") if f"{tag}/text_summary" in events.Tags()["tensors"] else (
        events.Tensors(tag))
    return value.tensor_proto.string_val[0].decode()


def _settings(tiny_settings, run: Path) -> Settings:
    return tiny_settings(run=str(run), method="paired", generator="mobile", generator_norm="none", batch_size=2,
                         preprocess="crop", log_steps=1, image_steps=1, eval_steps=1, ngf=5)


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory, tiny_settings) -> Path:
    """A tiny run that evaluates, draws and logs at every step."""
    run = tmp_path_factory.mktemp("overview") / "run"
    assert Run(_settings(tiny_settings, run)).train(verbose=0).finished
    return run


def test_every_chart_of_the_layout_has_curves_and_every_curve_a_chart(run):
    events = _events(run)
    layout = layout_pb2.Layout.FromString(
        events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    patterns = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    curves = {tag for tag in events.Tags()["tensors"]
              if events.SummaryMetadata(tag).plugin_data.plugin_name == "scalars"}
    assert "loss/generator" in curves and "eval_ema/psnr" in curves
    found = {title: {curve for curve in curves if any(re.match(tag, curve) for tag in tags)}
             for title, tags in patterns.items()}
    # This method has no terms that nothing learns from, and measures no FID.
    assert {title for title, group in found.items() if not group} <= {"to look at"} and "FID" not in found
    rest = curves - set().union(*found.values())
    assert rest == {curve for curve in rest if curve.startswith(("alarm/", "colour/", "colours/"))}, rest


def test_settings_are_a_table_and_hparams(run):
    events = _events(run)
    table = _text(events, "settings")
    assert "| `--ngf` | 5 | 64 |" in table and "| `--generator` | mobile | resnet |" in table
    assert "--samples_per_plugin=images=0" in _text(events, "pictures")
    data = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    hparams = plugin_data_pb2.HParamsPluginData.FromString(data).session_start_info.hparams
    assert hparams["ngf"].number_value == 5 and hparams["generator"].string_value == "mobile"
    assert "run" not in hparams and "learning_rate" in hparams


def test_a_continued_run_says_it_once(tmp_path, tiny_settings, monkeypatch):
    settings = _settings(tiny_settings, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(callbacks.NonFiniteStop, "at_step", lambda self, step: signal.raise_signal(signal.SIGTERM))
        assert Run(settings).train(verbose=0).step == 1
    outcome = Run(settings).train(verbose=0)
    assert outcome.finished and outcome.step == 4
    events = _events(tmp_path)
    assert [event.step for event in events.Tensors("loss/generator")] == [1, 2, 3, 4]
    assert [event.step for event in events.Tensors("custom_scalars__config__")] == [0]


def test_values_that_markdown_or_hparams_cannot_have_are_written_otherwise(tmp_path):
    settings = Settings.of(dataset="a|b,c", run="run\udcff")  # a byte that is no text
    assert "| `--dataset` | a\\|b,c |" in overview.settings_table(settings)
    assert not [name for name, value in overview.compared_settings(settings).items() if value is None]
    writer = make_writer(tmp_path)
    overview.write_overview(writer, settings.having(distribution_metric="fid"))
    writer.close()
    layout = layout_pb2.Layout.FromString(
        _events(tmp_path).Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0])
    assert [chart.title for chart in layout.category[0].chart] == ["PSNR dB", "SSIM", "FID"]
