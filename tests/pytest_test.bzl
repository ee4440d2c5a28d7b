"""Tests that pytest runs. tools/update_build.py writes the calls of pytest_folder."""

load("@rules_python//python:defs.bzl", "py_test")
load("//tools:python.bzl", "all_files", "other_files", "python_modules")

# Above every test: its fixtures, and what starts pytest.
_SHARED = ["//tests:conftest", "//tests:pytest_main"]

def pytest_test(name, srcs, data = [], deps = [], slow = False, tags = [], **kwargs):
    """A py_test of files that pytest runs, with the options of pyproject.toml.

    Args:
      name: of the test.
      srcs: files with tests, in this package.
      data: files that they read.
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
        data = data + ["//:pyproject.toml"],
        # Without it, folders of tests would become packages.
        legacy_create_init = 0,
        main = "//tests:pytest_main.py",
        tags = tags + (["manual"] if slow else []),
        deps = deps + [label for label in _SHARED if label not in deps],
        **kwargs
    )

# Named after the files.
# buildifier: disable=unnamed-macro
def pytest_folder(modules = {}, data = [], deps = [], slow = [], folders = []):
    """A package of tests: a test for each *_test.py, a library for each other module, and the files.

    Args:
      modules: what each module that is no test needs, by its name. Every test of the package gets all of them.
      data: labels of the files that the tests read, besides those beside them.
      deps: what the tests import, besides these modules, //tests:conftest and what they need.
      slow: names of tests that are marked as slow throughout.
      folders: packages below this one whose files belong to it.
    """
    all_files(folders, testonly = True)
    python_modules(modules, testonly = True)
    own = ["//{}:{}".format(native.package_name(), module) for module in modules]
    for file in native.glob(["*_test.py"], allow_empty = True):
        name = file[:-len(".py")]
        pytest_test(
            name = name,
            srcs = [file],
            data = data + other_files(),
            deps = deps + own,
            slow = name in slow,
            visibility = ["//visibility:public"],
        )
