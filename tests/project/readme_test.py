"""Every command of the README and of docs/, in a folder that looks like a clone, on tiny pictures and networks.

By default a command of each kind is run, in a warm process, and the flags of the others are parsed. `-m slow` runs them
all, one after the other: those of the README in new processes as its reader would, those of docs/ in warm ones.
"""

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from absl import flags as absl_flags
from PIL import Image

from cut_tf import command_line, flags
from tests import warm_process

ROOT = Path(__file__).parents[2]
# In the order in which their commands are run: later ones use what earlier ones leave.
PAGES = ("README.md", "docs/train.md", "docs/methods/cut.md", "docs/methods/sincut.md", "docs/methods/baselines.md",
         "docs/methods/aecr_net.md", "docs/methods/gunet.md", "docs/translate.md", "docs/official.md", "docs/demo.md",
         "docs/serve.md", "docs/phones.md", "docs/hub.md", "docs/data.md", "docs/methods/odcr.md",
         "docs/methods/odcr_runs.md", "docs/tables.md", "docs/speed.md", "docs/parity.md", "docs/architecture.md",
         "docs/stacks.md", "docs/scale.md")
TEXTS = {page: (ROOT / page).read_text(encoding="utf-8") for page in PAGES}
README = TEXTS["README.md"]
INSTALL = "python3 -m venv .venv && .venv/bin/pip install -q "
INSTALL_ADDONS = "python3.11 -m venv .venv-addons && .venv-addons/bin/pip install -q "
# Put behind a training command, these make it take seconds. The networks keep the flagfile's structure.
TINY = ["--steps_per_epoch=1", "--constant_epochs=1", "--decay_epochs=0", "--ngf=4", "--ndf=4", "--crop_size_px=32",
        "--load_size_px=36", "--scenes_images=4", "--scenes_size_px=48", "--test_images=2", "--num_patches=16",
        "--generator_blocks=5", "--batch_size=1"]
# The same for each suite of tables.
REPRODUCED = {"dehazing": ["--steps=8", "--rows=input,dark_channel_prior,odcr", "--set=eval_steps=8"],
              "ablation": ["--steps=8", "--rows=no_identity"], "aecr-ablation": ["--rows=input"],
              "haze-ablation": ["--rows=input"], "light": ["--steps=8", "--rows=distill"],
              "speed": ["--steps=1", "--rows=cyclegan,cut"], "alignment": ["--steps=8", "--rows=cut"],
              "features": ["--rows=mobile"]}
# The commands that are run by default, by how they begin: what a newcomer does, once each.
WALK = ("python -m cut_tf.train --flagfile=cut_tf/flagfiles/quickstart.flags --run=runs/quickstart",
        "python -m cut_tf.train --flagfile=quickstart_mobile --run=runs/quickstart_mobile",
        "tensorboard",
        "python -m cut_tf.translate --run=runs/quickstart",
        "python -m cut_tf.evaluate",
        "python -m cut_tf.import_weights --input=checkpoints/horse2zebra/latest_net_G.pth --output",
        "python -m cut_tf.translate --model=dehaze_mobile",
        "python -m cut_tf.export --run=runs/quickstart --format=saved_model",
        "docker compose",
        "python -m cut_tf.client",
        "python -m cut_tf.export --run=runs/quickstart_mobile --format=tflite",
        "python -m cut_tf.translate --tflite",
        "python -m cut_tf.translate --method=dark_channel_prior",
        "python -m tools.make_haze --input=clear_photos/val")
# Commands whose flags are parsed only: they serve until they are stopped, or need npm's registry. tests/demo and
# tests/tools/live_page_test.py run them.
PARSED = ("python -m cut_tf.demo", "python -m tools.live_page")
# Of each suite of tables the first command is run, and those whose results another command reads. The others are made
# with all their flags, rows and data, as at their start, without doing anything.
MADE = """
import sys
from absl import flags
from cut_tf import command_line
from tools.reproduce import __main__ as reproduce

reproduce.define()
flags.FLAGS(command_line.with_flagfile_paths(sys.argv))
options = reproduce._options(flags.FLAGS)
reproduce.KINDS[reproduce.SUITES[options.suite].kind](options)
print("made", options.suite)
"""
# Of a folder that only a command which is not run by default writes.
SLOW_FOLDERS = ("dehazed", "hub/")


def _commands() -> list[str]:
    """All commands but the installations, each once, with their programs resolved."""
    commands = []
    for text in TEXTS.values():
        # Fenced blocks, and those that four spaces make.
        found = re.findall(r"```bash\n(.*?)```|^    (python -m [^\n]*)$", text, re.DOTALL | re.MULTILINE)
        for line in "\n".join(fenced.strip() or indented for fenced, indented in found).splitlines():
            if line.startswith((INSTALL, INSTALL_ADDONS)):
                line = re.sub(r"\.venv(-addons)?/bin/python", "python", line.split(" && ")[-1])
            commands.append(line)
    return [line for line in dict.fromkeys(commands) if line]


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXTS[page], re.DOTALL)


def _tiny(words: list[str]) -> list[str]:
    """Those of TINY that a training with these flags reads."""
    values = absl_flags.FlagValues()
    flags.define(values)
    words = [word.replace("=cut_tf/", f"={ROOT}/cut_tf/") for word in words]
    values(command_line.with_flagfile_paths(["train", *words]), known_only=True)
    settings = flags.settings_from(values)
    used = set(flags.used_settings(settings))
    if settings.generator.generator == "gunet":  # It has that many at each level: its flagfiles' own number is smaller.
        used.discard("generator_blocks")
    return [flag for flag in TINY if flag[2:].partition("=")[0] in used]


def _arguments(command: str) -> list[str]:
    """The command as this test runs it."""
    words = shlex.split(command)
    if words[0] == "tensorboard":
        return [sys.executable, "-m", "tensorboard.main", "--inspect", *words[1:]]
    if words[:2] == ["docker", "compose"]:
        # There is no server image here: the file must be one that compose could read.
        folder = words[words.index("--project-directory") + 1]
        return [sys.executable, "-c", f"import yaml; yaml.safe_load(open('{folder}/docker-compose.yml'))['services']"]
    if words[0] in ("printf", "curl"):
        return [sys.executable, "-c", f"import subprocess; subprocess.run(['bash', '-ec', {command!r}], check=True)"]
    assert words[0] == "python", command
    if words[2] == "cut_tf.train" and "--version" not in words:
        # Datasets that would be downloaded are only checked, as far as that goes without a network.
        words += ["--dry_run"] if "horse2zebra" in command else _tiny(words[3:])
        # One evaluation, for `tools.plots.record`.
        words += [] if "--dry_run" in words else ["--eval_steps=1"]
        # SinCUT's networks are made for one crop.
        words += ["--stylegan2_size_px=32"] if "sincut" in command else []
    if words[2] == "tools.reproduce":
        suite = next(word.partition("=")[2] for word in words if word.startswith("--suite="))
        words += ["--seeds=0", *REPRODUCED[suite], *(f"--set={flag[2:]}" for flag in TINY if "epoch" not in flag)]
    if words[2] == "tools.benchmark":
        words += ["--size_px=32", "--sizes_px=32", "--batches=1,2", "--pairs=2", "--noresnet", "--ngf=4",
                  "--generator_blocks=1", "--repeats=1", "--precision=float32", "--forms=Keras float32",
                  "--steps=2", "--window=2", "--requests=2",
                  *(["--method=paired"] if words[3] in ("report", "scaling", "losses") else [])]
    if words[2] == "tools.make_dehaze_mobile":
        words += [f"--train_flag={flag}" for flag in _tiny(["--flagfile=dehaze_mobile", "--dataset=rooms+hazed:x"])]
    if words[2] == "cut_tf.export" and {"--format=tflite", "--format=hub", "--precision=bfloat16"} & set(words):
        words += ["--allow_quality_loss"]  # of a network that has learned nothing
    if words[2] == "tools.fetch_clear_photographs":
        words += ["--help"]  # tests download nothing
    if words[2] in ("tools.plots", "tools.plots.record", "tools.reproduce.curves"):
        # Not into docs/, which is that of the clone itself.
        words += ["--output=pictures" if words[2] == "tools.plots" else "--output=psnr.csv"]
    if words[2] == "tools.repeat_tests":
        words += ["--runs=1", "--busy=0", "--", "--collect-only", "-q", str(ROOT / "tests" / "rules")]
    if words[2] == "pytest":
        words += ["--collect-only", "-q"]
    if words[2] == "tools.evaluate_dehazing":
        words += ["--count=2", "--checked=2"]
    return [sys.executable, *words[1:]]


@pytest.fixture
def workspace(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    (folder / "checkpoints/horse2zebra").mkdir(parents=True)
    for name in "GDF":
        shutil.copy(ROOT / f"tests/testdata/official/cut_{name}.pth",
                    folder / f"checkpoints/horse2zebra/latest_net_{name}.pth")
    for path in ROOT.iterdir():
        if path.is_file() or path.name in ("cut_tf", "tools", "tests", "docs"):
            (folder / path.name).symlink_to(path)
    shutil.copytree(ROOT / "saved_models", folder / "saved_models")
    rng = np.random.default_rng(0)
    _save_pictures(folder, ["photo.jpg", "painting.jpg"], rng)
    for name in ("maps", "labels"):
        (folder / name).mkdir()
        Image.fromarray(rng.integers(0, 4, [20, 30], np.uint8)).save(folder / name / "street.png")
    for name in ("photos/trainA", "photos/trainB", "photos/testA", "photos/testB", "clear_photos/train",
                 "clear_photos/val", "hazy_photos"):
        _save_pictures(folder / name, [f"{index}.png" for index in range(4)], rng)
    (folder / "depths").mkdir()
    for index in range(4):
        Image.fromarray(rng.integers(0, 256, [40, 52], np.uint8)).save(folder / "depths" / f"{index}.png")
    _save_pictures(folder / "RESIDE/ITS/hazy", ["1_1.png", "1_2.png", "2_1.png"], rng)
    _save_pictures(folder / "RESIDE/ITS/clear", ["1.png", "2.png"], rng)
    _save_pictures(folder / "RESIDE/SOTS/indoor/hazy", ["7_1.png"], rng)
    _save_pictures(folder / "RESIDE/SOTS/indoor/gt", ["7.png"], rng, border_px=10)
    for part in ("train", "test"):
        _save_pictures(folder / "NH-HAZE" / part, ["01_hazy.png", "01_GT.png", "02_hazy.png", "02_GT.png"], rng)
    return folder


def _save_pictures(folder: Path, names: list[str], rng: np.random.Generator, border_px: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        size = (40 + 2 * border_px, 52 + 2 * border_px, 3)
        Image.fromarray(rng.integers(0, 256, size, np.uint8)).save(folder / name)


def _run(arguments: list[str], folder: Path) -> str:
    result = subprocess.run(arguments, cwd=folder, text=True,
                            env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "TFDS_DATA_DIR": str(folder / "tfds")},
                            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=900)
    assert result.returncode == 0, f"{shlex.join(arguments)}\n{result.stdout[-3000:]}"
    return result.stdout


def test_the_first_two_blocks_are_the_two_commands():
    first, second = _blocks("README.md", "bash")[:2]
    assert first.startswith(INSTALL + ". && .venv/bin/python -m cut_tf.train --flagfile=")
    assert second.startswith(INSTALL + "'.[test]' && .venv/bin/python -m pytest")
    addons = _blocks("docs/stacks.md", "bash")[0]
    assert addons.startswith(INSTALL_ADDONS + "'.[addons,test]' && .venv-addons/bin/python -m pytest")
    for page, text in TEXTS.items():
        assert "@" not in re.sub(r"@(\w+\.|STEP|\d+|litertjs/core)", "", text), f"a placeholder is left in {page}"


class _StandIns(contextlib.ExitStack):
    """Servers, by gRPC and REST, of what was exported before; started when the first command needs them."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder, self._addresses = folder, {}

    def arguments(self, command: str, arguments: list[str]) -> list[str]:
        """A client's arguments, with HOST:PORT of one of the servers in them; others as they are."""
        if command.startswith("curl"):
            return [argument.replace("127.0.0.1:8501", self._server("rest")) for argument in arguments]
        if "cut_tf.client" in command or "benchmark serving" in command:
            protocol = "grpc" if "--protocol=grpc" in command else "rest"
            return [*arguments, f"--server={self._server(protocol)}"]
        return arguments

    def _server(self, protocol: str) -> str:
        if not self._addresses:
            from tests.client import stand_in_servers  # needs the extra serving

            models = stand_in_servers.ModelFolders({"quickstart": self._folder / "saved_models" / "quickstart"})
            self.callback(models.close)
            self._addresses = {"grpc": self.enter_context(stand_in_servers.grpc_server(models)),
                               "rest": self.enter_context(stand_in_servers.rest_server(models))}
        return self._addresses[protocol]


# One test, since later commands use the results of earlier ones.
def test_a_command_of_each_kind_runs_and_the_others_parse(workspace):
    outputs = {}
    with _StandIns(workspace) as servers:
        for command in _commands():
            arguments = servers.arguments(command, _arguments(command)[1:])
            # Pipelines need the extra beam.
            walked = command.startswith(WALK) and not any(part in command for part in (
                "--runner=", *(f"={folder}" for folder in SLOW_FOLDERS)))
            if walked or arguments[0] != "-m":
                outputs[command] = _run_warm(arguments, workspace)
            elif arguments[1] != "pytest":
                _run_warm(arguments, workspace, only_parse=True)
    assert all(any(command.startswith(beginning) for command in outputs) for beginning in WALK)
    _check_walk(outputs, workspace)


@pytest.mark.slow
def test_every_command_runs(workspace):
    outputs, suites = {}, set()
    read = set(re.findall(r"--results=(\S+)", "\n".join(_commands())))
    with _StandIns(workspace) as servers:
        for command in _commands():
            arguments = servers.arguments(command, _arguments(command))
            suite = re.search(r"tools\.reproduce --suite=(\S+) .*--output=(\S+)", command)
            if suite and suite[1] in suites and suite[2] not in read:
                # The pictures of the workspace are small.
                given = [*shlex.split(command)[3:], *(f"--set={flag[2:]}" for flag in TINY if "crop_size" in flag)]
                assert f"made {suite[1]}" in _run_warm(["-c", MADE, *given], workspace), command
                continue
            suites.update(suite.groups()[:1] if suite else ())
            no_beam = "--runner=" in command and not importlib.util.find_spec("apache_beam")
            if no_beam or command.startswith(PARSED):
                _run_warm(arguments[1:], workspace, only_parse=True)
                continue
            # The BUILD files describe the clone itself.
            folder = ROOT if "tools.update_build" in command else workspace
            is_new = command in README or arguments[0] != sys.executable
            outputs[command] = _run(arguments, folder) if is_new else _run_warm(arguments[1:], folder)
    for command in _trainings():
        assert "step 1 of 1" in outputs[command], command
    _check_walk(outputs, workspace)
    assert "colour" in outputs[next(command for command in outputs if "style_distance" in command)]
    assert (workspace / "dehazed.metrics.json").exists()


def _trainings() -> list[str]:
    return [command for command in _commands()
            if "cut_tf.train" in command and not {"--dry_run", "--version"} & set(_arguments(command))]


def test_every_training_command_is_found():
    """By another way than `_commands`, which could miss a block: by the lines that begin as such commands do."""
    lines = {line.strip() for text in TEXTS.values() for line in text.splitlines()}
    written = {line.split(" && ")[-1].replace(".venv/bin/python", "python") for line in lines
               if re.match(r"(python3 -m venv .* && \.venv/bin/)?python -m cut_tf\.train ", line)}
    # Of clusters, which end in &, and those that train nothing here.
    others = {line for line in written if line.endswith("&") or re.search("--version|--dry_run|horse2zebra", line)}
    assert set(_trainings()) == written - others and len(_trainings()) == 32


def _run_warm(arguments: list[str], folder: Path, only_parse: bool = False) -> str:
    ended = warm_process.run(arguments, folder, only_parse)
    assert ended.returncode == 0, f"{shlex.join(arguments)}\n{ended.stdout[-1000:]}{ended.stderr[-3000:]}"
    return ended.stdout + ended.stderr


def _check_walk(outputs: dict[str, str], workspace: Path) -> None:
    """What the commands of WALK print and leave."""
    first = next(output for command, output in outputs.items() if command.startswith(WALK[0]))
    assert "step 1 of 1" in first
    assert re.search(r"ema +PSNR +\d+\.\d\d dB +SSIM \d\.\d{4} +gain [+-]\d+\.\d\d dB", first)
    assert "comparison.png" in first and "tensorboard --logdir=runs/quickstart" in first
    assert sorted(path.name for path in (workspace / "results").glob("*.png")) == [f"{index}.png" for index in range(4)]
    assert (workspace / "saved_models" / "quickstart" / "1" / "saved_model.pb").is_file()
    for name in ("served", "served_rest", "served_softer", "softer", "from_phone"):
        assert len(list((workspace / name).glob("*.png"))) == 4, name
    assert (workspace / "request.json").is_file() and "predictions" in (workspace / "answer.json").read_text()
    assert (workspace / "clear" / "photo.jpg").is_file()
    assert (workspace / "results.metrics.csv").exists()
    assert (workspace / "runs" / "official" / "imported.json").is_file()


@pytest.mark.slow
@pytest.mark.parametrize("page", ["README.md", "docs/train.md", "docs/hub.md"])
def test_the_python_example_runs(workspace, page):
    (code,) = _blocks(page, "python")
    done = _run_warm(["-c", code + "\nassert clear.shape == (120, 90, 3) and clear.dtype == np.uint8"
                            "\nimport shutil\nshutil.rmtree('my_model', ignore_errors=True)"
                            "\nprint('all of it ran')\n"], workspace)
    assert "all of it ran" in done


def test_the_readme_is_one_page_and_no_page_is_forgotten():
    assert README.count("\n") <= 200
    assert {path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")} == set(PAGES) - {"README.md"}


@pytest.mark.parametrize("page", PAGES)
def test_what_a_page_names_exists(page):
    text = TEXTS[page]
    for name in re.findall(r"(?:cut_tf|tools|tests)/[\w/.]+\w\.(?:py|flags)", text):
        assert "NAME" in name or (ROOT / name).is_file() or name == "cut_tf/methods/brightness.py", name
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        file, _, anchor = target.partition("#")
        path = (ROOT / page).parent / file if file else ROOT / page
        assert path.exists(), f"{page}: there is no {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            anchors = {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}
            assert anchor in anchors, f"{page}: {file} has no heading for #{anchor}"


def test_every_flagfile_is_in_the_table_of_methods():
    methods = README.split("## Methods")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", methods))
    assert named == set(command_line.flagfile_names())
