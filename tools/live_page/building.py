"""What the live page is put together of: its own files, the runtime from npm, and a model."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from pathlib import Path

from cut_tf.common.errors import InputError
from cut_tf.common.files import whole_folder

_HERE = Path(__file__).parent
_LONGEST_SEC = 300
# Of the package @litertjs: the page loads the first of each, and `compat` in browsers without relaxed SIMD.
_RUNTIME = {
    "core/dist/index.js": "core/index.js",
    "core/package.json": "core/package.json",
    "core/wasm/litert_wasm_internal.js": "wasm/litert_wasm_internal.js",
    "core/wasm/litert_wasm_internal.wasm": "wasm/litert_wasm_internal.wasm",
    "core/wasm/litert_wasm_compat_internal.js": "wasm/litert_wasm_compat_internal.js",
    "core/wasm/litert_wasm_compat_internal.wasm": "wasm/litert_wasm_compat_internal.wasm",
    "wasm-utils/dist/index.js": "wasm-utils/index.js",
    "wasm-utils/package.json": "wasm-utils/package.json",
}
MODEL = "model.tflite"


def build_page(tflite: Path, output: Path) -> None:
    """Writes the page into a folder: aside first, then renamed.

    Args:
      tflite: a file of a fixed size, as `cut_tf.export` writes it.
      output: new or empty.

    Raises:
      InputError: if the file is no such model, the folder holds anything, npm fails, or the disk refuses.
    """
    content = _model(tflite)
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError(f"--output must be a new or empty folder, found {output}")
    try:
        with whole_folder(output, "index.html") as aside, tempfile.TemporaryDirectory() as folder:
            shutil.copytree(_HERE / "page", aside, dirs_exist_ok=True)
            (aside / MODEL).write_bytes(content)
            packages = _installed(Path(folder))
            for source, target in _RUNTIME.items():
                path = aside / "runtime" / target
                path.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(packages / source, path)
    except OSError as error:
        raise InputError(f"--output={output} cannot be written: {error}") from error


def _model(path: Path) -> bytes:
    """The bytes of a .tflite file that the page can run."""
    from cut_tf.translators.exported import TFLiteTranslator

    model = TFLiteTranslator(path)
    if model.size_px is None:
        raise InputError(f"--tflite must be made for a fixed size (cut_tf.export --size=HxW), found any size in {path}")
    if model.unit_range:
        raise InputError(f"--tflite must be exported without --unit_range, found values in [0, 1] in {path}")
    return path.read_bytes()


def _installed(folder: Path) -> Path:
    """The folder of the packages @litertjs, installed into `folder` as the lock file says, by npm."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(_HERE / name, folder)
    npm = shutil.which("npm")
    if npm is None:
        raise InputError("npm must be installed (Debian: apt-get install npm), found none on the PATH")
    try:
        done = subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=folder, text=True,
                              capture_output=True, timeout=_LONGEST_SEC)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"npm must install the runtime within {_LONGEST_SEC} s, found that it did not") from error
    if done.returncode != 0:
        raise InputError(f"npm must be able to install the runtime, found: {(done.stderr or done.stdout).strip()}")
    return folder / "node_modules" / "@litertjs"
