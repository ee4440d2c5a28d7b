"""Files for TF Serving beside the models: valid for their readers, and careful with what others wrote."""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import logging
import os
import re
import shutil
import socket
import subprocess
import threading
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from PIL import Image

from cut_tf.common.errors import InputError
from cut_tf.export.saved_model import export, serving_files
from cut_tf.export.saved_model.export import export_saved_model
from cut_tf.export.saved_model.serving_files import model_name, write_serving_files
from cut_tf.methods import build_method
from cut_tf.translators.run import Translator
from tests.ports import free_ports

FILES = ["README.md", "batching.config", "docker-compose.yml", "kubernetes.yaml", "models.config", "monitoring.config"]


def _model(folder: Path, name: str = "tiny") -> Path:
    (folder / name / "1").mkdir(parents=True)
    return folder / name


@pytest.fixture
def models(tmp_path) -> Path:
    """A folder with the model `tiny` and the files."""
    write_serving_files(_model(tmp_path))()
    return tmp_path


def _served(folder: Path) -> dict[str, object]:
    """ModelConfig by name, as TF Serving's own message reads models.config."""
    config = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2",
                                 reason="tensorflow-serving-api is not installed: pip install 'cut_tf[serving]'")
    parsed = text_format.Parse((folder / "models.config").read_text(), config.ModelServerConfig())
    return {each.name: each for each in parsed.model_config_list.config}


def _message(text: str, fields: dict[str, tuple[int, str]]) -> object:
    """A text proto, parsed by a message that TF Serving defines with these fields: name to (number, type).

    tensorflow-serving-api does not bring the messages of batching and monitoring along.
    """
    pool = descriptor_pool.DescriptorPool()
    file = descriptor_pb2.FileDescriptorProto(name="test.proto", package="test", syntax="proto3")
    for name, kind in (("Int64Value", 3), ("BoolValue", 8), ("StringValue", 9)):
        file.message_type.add(name=name).field.add(name="value", number=1, type=kind, label=1)
    prometheus = file.message_type.add(name="PrometheusConfig")
    prometheus.field.add(name="enable", number=1, type=8, label=1)
    prometheus.field.add(name="path", number=2, type=9, label=1)
    message = file.message_type.add(name="Parsed")
    for name, (number, kind) in fields.items():
        if kind == "bool":
            message.field.add(name=name, number=number, type=8, label=1)
        else:
            message.field.add(name=name, number=number, type=11, type_name=f".test.{kind}", label=1)
    pool.Add(file)
    parsed = message_factory.GetMessageClass(pool.FindMessageTypeByName("test.Parsed"))()
    return text_format.Parse(text, parsed)


def test_models_config_names_the_models(models):
    served = _served(models)
    assert list(served) == ["tiny"]
    assert (served["tiny"].base_path, served["tiny"].model_platform) == ("/models/tiny", "tensorflow")
    write_serving_files(_model(models, "other-1.0"))()
    assert list(_served(models)) == ["other-1.0", "tiny"]
    shutil.rmtree(models / "tiny")
    write_serving_files(models / "other-1.0")()
    assert list(_served(models)) == ["other-1.0"]


def test_batching_never_merges_requests_and_bounds_the_queue(models):
    parsed = _message((models / "batching.config").read_text(), {
        "max_batch_size": (1, "Int64Value"), "batch_timeout_micros": (2, "Int64Value"),
        "max_enqueued_batches": (3, "Int64Value"), "num_batch_threads": (4, "Int64Value"),
        "thread_pool_name": (5, "StringValue"), "pad_variable_length_inputs": (7, "bool"),
        "enable_large_batch_splitting": (8, "BoolValue"), "max_execution_batch_size": (9, "Int64Value")})
    assert parsed.enable_large_batch_splitting.value and parsed.max_execution_batch_size.value == 1
    assert not parsed.pad_variable_length_inputs and parsed.batch_timeout_micros.value == 0
    assert parsed.max_batch_size.value > 1 and parsed.max_enqueued_batches.value >= parsed.max_batch_size.value
    assert parsed.num_batch_threads.value >= 1


def test_monitoring_is_on(models):
    parsed = _message((models / "monitoring.config").read_text(), {"prometheus_config": (1, "PrometheusConfig")})
    assert parsed.prometheus_config.enable
    assert parsed.prometheus_config.path in (models / "README.md").read_text()


@pytest.fixture
def service(models) -> dict:
    """The service in the compose file."""
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed: pip install '.[test]'")
    services = yaml.safe_load((models / "docker-compose.yml").read_text())["services"]
    assert list(services) == ["serving"]
    return services["serving"]


def test_the_compose_file_mounts_what_its_flags_name(models, service):
    assert re.fullmatch(r"tensorflow/serving:\d+\.\d+\.\d+", service["image"])
    assert service["volumes"] == [".:/models:ro"]
    assert service["ports"] == ["127.0.0.1:8500:8500", "127.0.0.1:8501:8501"]
    flags = dict(word.removeprefix("--").split("=") for word in service["command"])
    files = {name: value for name, value in flags.items() if name.endswith("_file")}
    assert set(files) == {"model_config_file", "batching_parameters_file", "monitoring_config_file"}
    for value in files.values():
        assert (models / Path(value).relative_to("/models")).is_file()
    assert flags["enable_batching"] == "true" and int(flags["model_config_file_poll_wait_seconds"]) > 0
    # The same flags without compose.
    readme = (models / "README.md").read_text()
    assert all(word in readme for word in service["command"]) and service["image"] in readme


def test_the_kubernetes_manifest_runs_the_same_server_and_its_parts_belong_together(models, service):
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed: pip install '.[test]'")
    parts = {part["kind"]: part for part in yaml.safe_load_all((models / "kubernetes.yaml").read_text())}
    assert {kind: part["apiVersion"] for kind, part in parts.items()} == {
        "Deployment": "apps/v1", "Service": "v1", "HorizontalPodAutoscaler": "autoscaling/v2"}
    deployment, network, scaler = (parts[kind]["spec"] for kind in parts)
    pod = deployment["template"]
    assert deployment["selector"]["matchLabels"] == pod["metadata"]["labels"] == network["selector"]
    (server,) = pod["spec"]["containers"]
    assert (server["image"], server["args"]) == (service["image"], service["command"])
    ports = {port["name"]: port["containerPort"] for port in server["ports"]}
    assert ports == {port["name"]: port["port"] for port in network["ports"]} == {"grpc": 8500, "rest": 8501}
    assert {port["targetPort"] for port in network["ports"]} == set(ports)
    assert server["readinessProbe"]["httpGet"] == {"path": "/v1/models/tiny", "port": "rest"}
    assert server["livenessProbe"]["tcpSocket"] == server["startupProbe"]["tcpSocket"] == {"port": "grpc"}
    assert set(server["resources"]) == {"requests", "limits"} and "cpu" in server["resources"]["requests"]
    (mount,), (volume,) = server["volumeMounts"], pod["spec"]["volumes"]
    assert mount["name"] == volume["name"] and mount["mountPath"] == "/models" and mount["readOnly"]
    monitoring = (models / "monitoring.config").read_text()
    assert f'"{pod["metadata"]["annotations"]["prometheus.io/path"]}"' in monitoring
    assert scaler["scaleTargetRef"] == {"apiVersion": "apps/v1", "kind": "Deployment",
                                        "name": parts["Deployment"]["metadata"]["name"]}
    assert scaler["minReplicas"] <= deployment["replicas"] <= scaler["maxReplicas"]


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash on the PATH")
def test_the_health_check_tells_open_ports_from_closed_ones(service):
    kind, *words = service["healthcheck"]["test"]
    assert kind == "CMD" and words[:2] == ["bash", "-c"]
    ports = free_ports(2)
    with socket.create_server(("127.0.0.1", ports[0])), socket.create_server(("127.0.0.1", ports[1])) as two:
        script = words[2].replace("8500", str(ports[0])).replace("8501", str(ports[1]))
        assert script.count("/dev/tcp/127.0.0.1/") == 2
        assert subprocess.run(["bash", "-c", script], timeout=900).returncode == 0
        two.close()
        assert subprocess.run(["bash", "-c", script], timeout=900, stderr=subprocess.DEVNULL).returncode != 0


def test_docker_compose_reads_the_file(models):
    if shutil.which("docker") is None:
        pytest.skip("no docker on the PATH")
    if subprocess.run(["docker", "compose", "version"], capture_output=True, timeout=900).returncode:
        pytest.skip("docker has no compose")
    done = subprocess.run(["docker", "compose", "config", "--format=json"], cwd=models, capture_output=True, text=True,
                          timeout=900)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["services"]["serving"]["command"]


def test_the_readme_calls_a_server_with_curl(models):
    for tool in ("bash", "curl", "base64", "python3"):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool} on the PATH")
    file = io.BytesIO()
    Image.new("RGB", (20, 18), (200, 30, 60)).save(file, "PNG")
    (models / "photo.jpg").write_bytes(file.getvalue())

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found, = body["instances"]
            if body.get("signature_name") == "with_strength":
                assert found.pop("strength") == 0.5
                found, = found.values()
            assert self.path == "/v1/models/tiny:predict" and base64.b64decode(found["b64"]) == file.getvalue()
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"predictions": [found]}).encode())

        def log_message(self, *_):
            """Nobody reads it."""

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    blocks = re.findall(r"```bash\n(.*?)```", (models / "README.md").read_text(), re.DOTALL)
    scripts = [block for block in blocks if "base64" in block]
    done = [subprocess.run(["bash", "-e", "-c", script.replace(":8501/", f":{server.server_address[1]}/")], cwd=models,
                           capture_output=True, text=True, timeout=900, env={**os.environ, "NO_PROXY": "127.0.0.1"})
            for script in scripts]
    server.shutdown()
    server.server_close()
    assert [each.returncode for each in done] == [0, 0], [each.stderr for each in done]
    for name in ("result.png", "half.png"):
        assert (models / name).read_bytes() == file.getvalue()


def test_the_first_line_holds_the_digest_of_the_rest(models):
    for name in FILES:
        head, _, rest = (models / name).read_text().partition("\n")
        assert re.search("[0-9a-f]{64}", head)[0] == hashlib.sha256(rest.encode()).hexdigest(), name


def test_nothing_but_the_files_is_written_and_writing_again_changes_nothing(models):
    assert sorted(path.name for path in models.iterdir()) == sorted([*FILES, "tiny"])
    before = {name: (models / name).stat().st_mtime_ns for name in FILES}
    write_serving_files(models / "tiny")()
    assert {name: (models / name).stat().st_mtime_ns for name in FILES} == before


def test_files_of_an_older_version_that_nobody_changed_are_renewed(models, monkeypatch):
    monkeypatch.setattr(serving_files, "COMPOSE", serving_files.COMPOSE + "# new\n")
    write_serving_files(models / "tiny")()
    assert (models / "docker-compose.yml").read_text().endswith("# new\n")


def test_files_that_somebody_changed_or_wrote_are_left_alone(models, caplog):
    (models / "README.md").write_text("mine\n")
    with open(models / "batching.config", "a") as file:
        file.write("# mine\n")
    before = {name: (models / name).read_bytes() for name in FILES}
    with caplog.at_level(logging.INFO, logger="cut_tf"):
        write_serving_files(models / "tiny")()
    assert {name: (models / name).read_bytes() for name in FILES} == before
    message, = caplog.messages
    assert "left alone" in message and message.endswith("batching.config, README.md")


def test_a_changed_models_config_is_left_alone_and_the_lines_to_add_are_told(models, caplog):
    text = (models / "models.config").read_text()
    rolled_back = text.replace('"tensorflow"', '"tensorflow"\n    model_version_policy { specific { versions: 1 } }')
    (models / "models.config").write_text(rolled_back)
    assert list(_served(models)["tiny"].model_version_policy.specific.versions) == [1]
    write_serving_files(models / "tiny")()
    assert caplog.messages == []
    write_serving_files(_model(models, "second"))()
    assert (models / "models.config").read_text() == rolled_back
    message, = caplog.messages
    told = message.partition("model_config_list:\n")[2]
    assert "models.config was changed by hand" in message
    (models / "models.config").write_text(rolled_back.rstrip()[:-1] + told + "\n}\n")
    assert list(_served(models)) == ["tiny", "second"]


def test_the_readme_tells_how_to_roll_back(models):
    block, = re.findall(r"```\n( +model_version_policy.*?\n)```", (models / "README.md").read_text())
    text = (models / "models.config").read_text()
    (models / "models.config").write_text(text.replace('platform: "tensorflow"\n', f'platform: "tensorflow"\n{block}'))
    assert list(_served(models)["tiny"].model_version_policy.specific.versions) == [1]


def test_a_bad_file_is_an_error_and_leaves_no_other_behind(tmp_path):
    folder = _model(tmp_path)
    (tmp_path / "models.config").mkdir()
    with pytest.raises(OSError):
        write_serving_files(folder)()
    assert not [path for path in tmp_path.iterdir() if path.name.endswith(".tmp")]


@pytest.fixture(scope="module")
def translator(tmp_path_factory, tiny_settings):
    """The Translator of a saved run."""
    method = build_method(tiny_settings())
    method.compile()
    folder = tmp_path_factory.mktemp("serving_files") / "run"
    method.save(folder)
    return Translator(folder)


def test_an_export_writes_the_files_and_says_what_it_compared(translator, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="cut_tf"):
        path = export_saved_model(translator, tmp_path / "models" / "tiny")
    assert path.is_dir() and list(_served(tmp_path / "models")) == ["tiny"]
    assert sorted(each.name for each in (tmp_path / "models").iterdir()) == sorted([*FILES, "tiny"])
    assert re.fullmatch(r"same pixels within [01] level\(s\) of 255 as the generator, checked on noise of 64x64 and "
                        "37x50 px", caplog.messages[-1])


def test_an_export_whose_files_cannot_be_written_leaves_no_version(translator, tmp_path):
    (tmp_path / "models.config").mkdir()
    with pytest.raises(InputError, match="--output=.*tiny cannot be written: "):
        export_saved_model(translator, tmp_path / "tiny")
    assert list((tmp_path / "tiny").iterdir()) == []


def test_models_config_names_a_version_only_once_it_is_there(translator, tmp_path, monkeypatch):
    """A process that dies while it renames leaves a models.config without the model."""
    def die(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(export.os, "rename", die)
    with pytest.raises(KeyboardInterrupt):
        export_saved_model(translator, tmp_path / "tiny")
    assert not (tmp_path / "models.config").exists() and list((tmp_path / "tiny").iterdir()) == []
    monkeypatch.undo()
    export_saved_model(translator, tmp_path / "tiny")
    assert list(_served(tmp_path)) == ["tiny"]


def test_an_export_of_a_bad_name_is_refused_before_anything_is_written(translator, tmp_path):
    with pytest.raises(InputError, match="--output must end in the model's name"):
        export_saved_model(translator, tmp_path / "my model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["tiny", "a", "7", "cut-2.1_b"])
def test_model_names(tmp_path, name):
    assert model_name(tmp_path / name) == name


def test_the_working_directory_may_be_the_model(tmp_path, monkeypatch):
    folder = _model(tmp_path)
    monkeypatch.chdir(folder)
    assert model_name(Path(".")) == "tiny"
    write_serving_files(Path("."))()
    assert (tmp_path / "models.config").is_file()


@pytest.mark.parametrize("name", ["my model", "a:b", ".hidden", "zebrá", 'a"b', "-x"])
def test_names_that_tf_serving_cannot_be_asked_for(tmp_path, name):
    with pytest.raises(InputError, match="--output must end in the model's name: letters, digits, .* found "):
        model_name(tmp_path / name)
