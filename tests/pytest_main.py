"""Runs pytest for Bazel: the tests of the files in the arguments."""

from __future__ import annotations

import os
import sys

import pytest

if __name__ == "__main__":
    # Commands that tests start find what the tests find.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    options = ["-c", "pyproject.toml", "--rootdir=.", "-p", "no:cacheprovider"]
    if "XML_OUTPUT_FILE" in os.environ:
        options.append(f"--junitxml={os.environ['XML_OUTPUT_FILE']}")
    if "TESTBRIDGE_TEST_ONLY" in os.environ:
        options += ["-k", os.environ["TESTBRIDGE_TEST_ONLY"]]
    sys.exit(pytest.main([*options, *sys.argv[1:]]))
