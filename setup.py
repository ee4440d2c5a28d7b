"""Packaging of cut_tf: contrastive image-to-image translation and dehazing in TensorFlow."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "cut_tf" / "__init__.py").read_text(encoding="utf-8"),
                    re.MULTILINE).group(1)

setup(
    name="cut_tf",
    version=VERSION,
    description="Contrastive unpaired image-to-image translation and dehazing in TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=find_packages(include=["cut_tf", "cut_tf.*"]),
    package_data={"cut_tf": ["flagfiles/*.flags", "py.typed"]},
    python_requires=">=3.10,<3.14",
    install_requires=[
        "tensorflow>=2.21,<2.22",
        "keras>=3.10,<4",
        "tensorboard>=2.19,<3",
        "tensorflow-datasets>=4.9.6,<5",
        # tensorflow-datasets 4.9.10 imports it without declaring it.
        "importlib_resources>=5,<8",
        # What tensorflow-datasets needs there; said here, an old pip finds it at once instead of searching for minutes.
        'protobuf>=6.31.1,<=6.32; python_version < "3.11"',
        'etils>=1.9.1,<=1.13.0; python_version < "3.11"',
        "numpy>=1.26,<3",
        "pillow>=10.1,<14",
        "absl-py>=2.1,<3",
    ],
    extras_require={
        "test": ["pytest>=8,<10", "scikit-image>=0.24,<1", "scipy>=1.11,<2", "ruff>=0.6,<1"],
    },
    entry_points={
        "console_scripts": [
            "cut-tf-train=cut_tf.train:run",
            "cut-tf-translate=cut_tf.translate:run",
            "cut-tf-evaluate=cut_tf.evaluate:run",
        ],
    },
)
