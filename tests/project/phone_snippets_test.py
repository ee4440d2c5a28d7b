"""The apps' code in docs/phones.md: it can be compiled nowhere here, but its numbers and names can be checked."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "phones.md").read_text(encoding="utf-8")
BOX = ROOT / "saved_models" / "dehaze_mobile"
# What each snippet calls of the runtime. Kotlin: CompiledModel, its Options, TensorBuffer and Accelerator of
# com.google.ai.edge.litert 2.3.0. Swift: Interpreter, its Options, MetalDelegate and Tensor of TensorFlowLiteSwift.
_PUBLISHED = {
    "kotlin": ("CompiledModel.create(assets, ", "CompiledModel.Options(accelerator)", "Accelerator.GPU",
               ".createInputBuffers()", ".createOutputBuffers()", ".writeFloat(", ".run(inputs, outputs)",
               ".readFloat()", ".close()"),
    "swift": ("Interpreter.Options()", ".threadCount = ", "modelPath: ", "options: ", "delegates: ", "MetalDelegate()",
              ".allocateTensors()", "toInputAt: 0", ".invoke()", ".output(at: 0)", ".data.withUnsafeBytes"),
}


def _code(language: str) -> str:
    return re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)[1]


@pytest.mark.parametrize("language", _PUBLISHED)
def test_it_names_a_file_in_the_box_and_its_size_and_range(language):
    from cut_tf.common.images import HALF_RANGE
    from cut_tf.translators.exported import TFLiteTranslator

    pytest.importorskip("ai_edge_litert", reason="the extra mobile (ai-edge-litert) is not installed")
    code = _code(language)
    name = re.search(r'"(dehaze_mobile_\w+)(?:\.tflite)?"', code)[1]
    side = int(re.search(r"\bside = (\d+)", code, re.IGNORECASE)[1])
    assert TFLiteTranslator(BOX / f"{name}.tflite").size_px == (side, side)
    assert float(re.search(r"half_?range(?:: Float32)? = ([\d.]+)", code, re.IGNORECASE)[1]) == HALF_RANGE


@pytest.mark.parametrize("language", _PUBLISHED)
def test_it_calls_the_runtime_by_published_names(language):
    code = _code(language)
    missing = [name for name in _PUBLISHED[language] if name not in code]
    assert not missing
    assert code.count("{") == code.count("}") and code.count("(") == code.count(")")
