"""A tiny generator in two versions, models that give back what they get, or invert it, and both kinds of server."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import tensorflow as tf

from cut_tf.export.options import ExportOptions, Size
from cut_tf.export.saved_model.export import export_saved_model
from cut_tf.methods import build_method
from cut_tf.translators.run import Translator

# For stand_in_servers.py, which the tests of this folder share.
sys.path.append(str(Path(__file__).parent))
MISSING = "tensorflow-serving-api is not installed: pip install 'cut_tf[serving]'"


class Exported(NamedTuple):
    """A folder of models, the Translators of versions 1 and 2 of `tiny`, and version 2, which is not there yet."""

    models: Path
    translators: tuple[Translator, Translator]
    second: Path


class Servers(NamedTuple):
    """The models that are served, and HOST:PORT by protocol."""

    models: object
    addresses: dict[str, str]


class Echo(tf.Module):
    """Takes and gives encoded pictures, unchanged, inverted, or under another name."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def inverted(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [B] to string [B] of PNG; a model of before there was a strength."""
        return {"output_bytes": tf.map_fn(lambda data: tf.io.encode_png(255 - tf.io.decode_png(data, 3)), image_bytes)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "image_bytes")])
    def same(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [B] to the same."""
        return {"output_bytes": tf.identity(image_bytes)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def other(self, text: tf.Tensor) -> dict[str, tf.Tensor]:
        """string [B] to the same, twice."""
        return {"first": tf.identity(text), "second_bytes": tf.identity(text)}


@pytest.fixture(scope="session")
def exported(tmp_path_factory, tiny_settings) -> Exported:
    """Two versions that draw different pictures: raw weights and running means."""
    pytest.importorskip("tensorflow_serving.apis", reason=MISSING)
    folder = tmp_path_factory.mktemp("client")
    method = build_method(tiny_settings(method="paired", generator="mobile", generator_norm="none"))
    method.compile()
    for gain, network in ((1.5, method.generator), (2.0, method.ema_generator)):
        for weight in network.weights:
            weight.assign(weight * gain)
    method.save(folder / "run")
    translators = Translator(folder / "run", "last"), Translator(folder / "run", "ema")
    options = ExportOptions(sizes=(Size(16, 16), Size(20, 28)), pixel_limit=64 * 64)
    export_saved_model(translators[0], folder / "models" / "tiny", options)
    second = export_saved_model(translators[1], folder / "staged" / "tiny", options)
    echo = Echo()
    for name, signature in (("echo", echo.same), ("inverter", echo.inverted), ("plain", echo.other)):
        tf.saved_model.save(echo, str(folder / "models" / name / "3"), signatures={"serving_default": signature})
    return Exported(folder / "models", translators, second)


@pytest.fixture(scope="session")
def served(exported) -> Iterator[Servers]:
    """Both servers, for all tests; `before_predict` is reset by `servers`."""
    import stand_in_servers

    names = ("tiny", "echo", "inverter", "plain")
    models = stand_in_servers.ModelFolders({name: exported.models / name for name in names})
    with stand_in_servers.grpc_server(models) as grpc, stand_in_servers.rest_server(models) as rest:
        yield Servers(models, {"grpc": grpc, "rest": rest})
    models.close()


@pytest.fixture
def servers(served) -> Iterator[Servers]:
    """Both servers, without faults."""
    served.models.num_predicts = 0
    yield served
    served.models.before_predict = lambda _: None


@pytest.fixture
def two_versions(exported, tmp_path) -> tuple[Path, Path]:
    """A model folder with version 1, and a hidden copy of version 2 in it, to be renamed."""
    folder = tmp_path / "tiny"
    shutil.copytree(exported.models / "tiny", folder)
    shutil.copytree(exported.second, folder / ".2.tmp")
    return folder, folder / ".2.tmp"


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch) -> None:
    """The servers are on this machine."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
    monkeypatch.setenv("no_proxy", "127.0.0.1,localhost")
