"""Targets of folders with Python files. tools/update_build.py writes the calls of these macros."""

load("@rules_python//python:defs.bzl", "py_binary", "py_library")

_PUBLIC = ["//visibility:public"]

def _folder():
    return native.package_name().rpartition("/")[2]

def other_files():
    """Labels of the files of a package that are neither Python nor about Bazel."""
    return native.glob(
        ["**"],
        allow_empty = True,
        exclude = ["**/*.py", "**/*.pyc", "**/*.bzl", "**/BUILD"],
    )

def all_files(folders = [], **kwargs):
    """The group `all_files` of a package.

    Args:
      folders: packages below this one whose files belong to it.
      **kwargs: further attributes of filegroup.
    """
    native.filegroup(
        name = "all_files",
        srcs = native.glob(["**"], exclude = ["**/__pycache__/**"]) +
               ["//{}/{}:all_files".format(native.package_name(), folder) for folder in folders],
        visibility = _PUBLIC,
        **kwargs
    )

def _program(module, library):
    py_binary(
        name = _folder() + "_bin" if module == "__main__" else module,
        srcs = [module + ".py"],
        main = module + ".py",
        visibility = _PUBLIC,
        deps = [":" + library],
    )

# Named after its folder.
# buildifier: disable=unnamed-macro
def python_folder(deps = [], programs = []):
    """A package with one library, which is called like its folder, and its files.

    Args:
      deps: of the library.
      programs: modules that are binaries too, besides __main__.
    """
    all_files()
    py_library(
        name = _folder(),
        srcs = native.glob(["**/*.py"]),
        data = other_files(),
        visibility = _PUBLIC,
        deps = deps,
    )
    for module in (["__main__"] if native.glob(["__main__.py"], allow_empty = True) else []) + programs:
        _program(module, _folder())

def python_modules(modules, **kwargs):
    """A library for each module: for packages whose modules and folders below need each other.

    Args:
      modules: what each module needs, by the name of the library: `package` is __init__.py, NAME_lib is NAME.py.
      **kwargs: further attributes of py_library.
    """
    for name, deps in modules.items():
        module = name[:-len("_lib")] if name.endswith("_lib") else name
        py_library(
            name = name,
            srcs = ["__init__.py" if name == "package" else module + ".py"],
            data = other_files(),
            visibility = _PUBLIC,
            deps = deps,
            **kwargs
        )

# Named after its folder.
# buildifier: disable=unnamed-macro
def python_root(modules, folders):
    """A package of the root: a library for each module, a binary for each NAME_lib, and one library of all.

    Args:
      modules: as of python_modules.
      folders: packages below, each with python_folder.
    """
    all_files(folders)
    python_modules(modules)
    for name in modules:
        if name.endswith("_lib"):
            _program(name[:-len("_lib")], name)
    py_library(
        name = _folder(),
        visibility = _PUBLIC,
        deps = [":" + name for name in modules] +
               ["//{}/{}".format(native.package_name(), folder) for folder in folders],
    )
