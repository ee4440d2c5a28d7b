"""The operations of a TFLite file, and what its quantisation costs."""

from __future__ import annotations

import collections
import contextlib
import io
import warnings
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from cut_tf import compat
from cut_tf.common import images
from cut_tf.common.errors import InputError
from cut_tf.translators.exported import UNIT_SIGNATURE, TFLiteTranslator, interpreter_class

_DELEGATE = "DELEGATE"
_LAYERS_NAMED = 5
# Between two runtimes of one file: half a level of 255, in values of [-1, 1].
_MOST_DIFFERENCE = 0.5 / images.HALF_RANGE


def operations(model: bytes, size_px: tuple[int, int] | None = None) -> dict[str, object]:
    """The operations of a model, and which of them XNNPACK computes on this machine's CPU.

    Args:
      model: content of the file.
      size_px: height and width to ask for, if the file takes any.

    Returns:
      `operations`, name to number; `xnnpack_partitions`, the connected parts that XNNPACK computes; and
      `operations_outside_xnnpack`, name to number.
    """
    interpreter = interpreter_class()(model_content=model)
    if size_px:
        interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [1, *size_px, 3], strict=True)
    interpreter.allocate_tensors()
    found = interpreter._get_ops_details()
    own = [operation for operation in found if operation["op_name"] != _DELEGATE]
    parts = [operation for operation in found if operation["op_name"] == _DELEGATE]
    inside = set().union(*(_covered(part, own) for part in parts)) if parts else set()
    outside = [operation for operation in own if operation["index"] not in inside]
    return {"operations": _count(own), "xnnpack_partitions": len(parts), "operations_outside_xnnpack": _count(outside)}


def outputs_of(model: bytes, kinds: Sequence[str]) -> list[str]:
    """Names of the tensors that operations of these kinds, such as CONV_2D, write; in the order of computation."""
    interpreter = interpreter_class()(model_content=model)
    names = {detail["index"]: detail["name"] for detail in interpreter.get_tensor_details()}
    return [names[operation["outputs"][0]] for operation in interpreter._get_ops_details()
            if operation["op_name"] in kinds]


def _covered(part: dict, operations_: Sequence[dict]) -> set[int]:
    """Indices of the operations between a delegate's outputs and its inputs."""
    producers = {tensor: operation for operation in operations_ for tensor in operation["outputs"]}
    given, found = set(part["inputs"]), set()
    waiting = list(part["outputs"])
    while waiting:
        operation = producers.get(waiting.pop())
        if operation is not None and operation["index"] not in found:
            found.add(operation["index"])
            waiting += [tensor for tensor in operation["inputs"] if tensor not in given]
    return found


def _count(found: Sequence[dict]) -> dict[str, int]:
    return dict(sorted(collections.Counter(operation["op_name"] for operation in found).items()))


def compiled_model(model: bytes, pictures: Sequence[np.ndarray], expected: Sequence[np.ndarray]) -> dict[str, object]:
    """Runs a file of one size by LiteRT's CompiledModel, which apps of today use, on the CPU.

    Args:
      model: content of the file.
      pictures: float32 [1, H, W, 3] in [-1, 1] each.
      expected: what the interpreter makes of them, in the same form.

    Returns:
      `largest_difference` between the two runtimes, of values in [-1, 1].

    Raises:
      InputError: if they differ by more than half a level, so that pixels would.
    """
    from ai_edge_litert.compiled_model import CompiledModel

    unit_range = TFLiteTranslator(model).unit_range
    compiled = CompiledModel.from_buffer(model)
    inputs, outputs = compiled.create_input_buffers(0), compiled.create_output_buffers(0)
    differences = []
    for picture, other in zip(pictures, expected):
        inputs[0].write(np.ascontiguousarray(images.to_unit(picture) if unit_range else picture))
        compiled.run_by_index(0, inputs, outputs)
        found = outputs[0].read(picture.size, np.float32).reshape(picture.shape)
        differences.append(np.abs((images.from_unit(found) if unit_range else found) - other).max())
    largest = float(max(differences))
    if largest > _MOST_DIFFERENCE:
        raise InputError(f"--format=tflite: LiteRT's CompiledModel must draw what its interpreter draws, within "
                         f"{_MOST_DIFFERENCE:.4f}, found {largest:.4f}")
    return {"largest_difference": largest}


def gpu_compatibility(model: bytes) -> dict[str, object]:
    """Whether TFLite's GPU delegate supports all operations, as far as the installed TensorFlow can tell.

    Returns:
      `compatible`, True, False or None, and `reason`.
    """
    if not compat.ANALYZER_KNOWS_GPUS:
        return {"compatible": None, "reason": f"the analyzer of TensorFlow {tf.__version__} does not look; that of "
                "TensorFlow 2.15 does"}
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        tf.lite.experimental.Analyzer.analyze(model_content=model, gpu_compatibility=True)
    lines = [line.strip() for line in printed.getvalue().splitlines()]
    problems = [line for line in lines if "GPU COMPATIBILITY WARNING" in line]
    if problems:
        return {"compatible": False, "reason": problems[0]}
    return {"compatible": True, "reason": f"no operation that the analyzer of TensorFlow {tf.__version__} warns of"}


def costly_layers(plain: bytes, quantized: bytes, picture: np.ndarray) -> list[str]:
    """The outputs that differ most between two files of one generator, in signal to noise.

    Args:
      plain: the float32 file.
      quantized: the other.
      picture: float32 [1, H, W, 3] in [-1, 1].

    Returns:
      Up to five names with their ratio in dB, worst first, among the tensors that both files have.
    """
    expected, found = _tensors(plain, picture), _tensors(quantized, picture)
    ratios = {}
    for name in expected.keys() & found.keys():
        if expected[name].shape == found[name].shape and expected[name].size:
            noise = float(np.mean(np.square(found[name] - expected[name])))
            signal = float(np.mean(np.square(expected[name])))
            if noise > 0 and signal > 0:
                ratios[name] = 10 * np.log10(signal / noise)
    worst = sorted(ratios, key=ratios.get)[:_LAYERS_NAMED]
    return [f"{name.split(';')[0]} ({ratios[name]:.1f} dB)" for name in worst]


def _tensors(model: bytes, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Values of all float tensors while the model runs, by name; constants among them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the interpreter warns that this is slow
        interpreter = interpreter_class()(model_content=model, experimental_preserve_all_tensors=True)
    entry = interpreter.get_input_details()[0]
    interpreter.resize_tensor_input(entry["index"], picture.shape)
    interpreter.allocate_tensors()
    unit_range = UNIT_SIGNATURE in interpreter.get_signature_list()
    interpreter.set_tensor(entry["index"], images.to_unit(picture) if unit_range else picture)
    interpreter.invoke()
    values = {}
    produced = {tensor for operation in interpreter._get_ops_details() for tensor in operation["outputs"]}
    for detail in interpreter.get_tensor_details():
        if detail["index"] in produced and detail["dtype"] == np.float32 and detail["name"]:
            with contextlib.suppress(ValueError):  # tensors inside a delegate have no value
                values[detail["name"]] = interpreter.get_tensor(detail["index"]).astype(np.float64)
    return values
