"""A method that no test trains, made once."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from cut_tf.methods import build_method
from cut_tf.methods.cut import CUT

# For method_steps.py, which the tests of this folder share.
sys.path.append(str(Path(__file__).parent))


@pytest.fixture(scope="module")
def untrained(tiny_settings) -> CUT:
    """CUT as its settings make it."""
    return build_method(tiny_settings())
