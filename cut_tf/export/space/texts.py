"""The texts of a Space, templates of `string.Template`."""

from __future__ import annotations

# The release of Gradio that the browser tests ran with, and the Python that the Space asks for.
GRADIO = "6.31.0"
PYTHON = "3.11"

APP = '''"""The page of cut_tf.demo with the model of this folder: python app.py"""

import tempfile
from pathlib import Path

from cut_tf.demo.models import given, offered
from cut_tf.demo.page import build_page, launch
from cut_tf.demo.pictures import Limits

HERE = Path(__file__).resolve().parent
LIMITS = Limits(pixels=$pixels)

models = offered(given([str(HERE / "$name")], [], []), {})
page = build_page(models, LIMITS, Path(tempfile.mkdtemp(prefix="cut_tf_demo_")))
# A Space says by GRADIO_SERVER_NAME whose address is served; without it that is this machine alone.
launch(page, LIMITS, host=None)
page.block_thread()
'''

REQUIREMENTS = """# Of app.py and of the folder cut_tf beside it, which is not installed.
gradio==$gradio
tensorflow>=2.21,<2.22
numpy>=1.26,<3
pillow>=10.1,<14
"""

README = """---
title: $quoted_name
emoji: 🌫️
colorFrom: gray
colorTo: blue
sdk: gradio
sdk_version: $gradio
python_version: "$python"
app_file: app.py
pinned: false
${license_line}short_description: Before and after, by a generator of cut_tf
tags:
  - image-to-image
  - cut_tf
---

# $name

Drop a picture, compare it with the output of the $generator generator, which $method trained for $steps steps, and
take the result along. Pictures of more than $pixels pixels are refused, or made smaller if asked for.

`app.py` starts the page, `$name/` is the model (a SavedModel), `cut_tf/` the code. On any machine:

    pip install -r requirements.txt
    python app.py

Licence of the weights: $license.
"""
