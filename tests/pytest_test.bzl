"""Tests that pytest runs."""

load("@rules_python//python:defs.bzl", "py_test")

def pytest_test(name, srcs, deps = [], slow = False, tags = [], **kwargs):
    """A py_test of files that pytest runs, with the options of pyproject.toml.

    Args:
      name: of the test.
      srcs: files with tests, in this package.
      deps: what they import.
      slow: all tests are marked as slow. They are run only where they are asked for by name.
      tags: as of py_test.
      **kwargs: further attributes of py_test.
    """
    files = ["{}/{}".format(native.package_name(), src) for src in srcs]
    py_test(
        name = name,
        # By the memory that TensorFlow takes; `timeout` says how long it may take.
        size = "enormous" if slow else "large",
        timeout = "eternal" if slow else "long",
        srcs = srcs + ["//tests:pytest_main.py"],
        args = ["-m", "slow" if slow else "'not slow'"] + files,
        # Without it, folders of tests would become packages.
        legacy_create_init = 0,
        main = "//tests:pytest_main.py",
        tags = tags + (["manual"] if slow else []),
        deps = deps + ["//tests:pytest_main"],
        **kwargs
    )
