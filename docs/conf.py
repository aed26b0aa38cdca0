"""Sphinx configuration of the documentation.

The pages describe the package that is installed in the environment Sphinx runs in; see CONTRIBUTING.md.
"""

import re
import sys
from pathlib import Path

from docutils import nodes
from sphinx.addnodes import desc_signature
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_ext"))

_header = Path(__file__).parent.parent / "include" / "quantize.h"

project = "quantize"
author = "the quantize authors"
project_copyright = "the quantize authors. MIT licence"
release = re.findall(r'#define QZ_VERSION "(.+?)"', _header.read_text("utf-8"))[0]
version = release

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "c_header"]
exclude_patterns = ["requirements.txt"]
smartquotes_action = "D"  # dashes only: quotes stay as they are written

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # docstrings say it in words that can be read
autodoc_preserve_defaults = True
napoleon_google_docstring = False
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = f"quantize {release}"
html_static_path = ["_static"]
html_css_files = ["quantize.css"]
html_copy_source = False
html_theme_options = {"navigation_with_keys": True}
pygments_style = "friendly"


def add_short_anchors(app: Sphinx, doctree: nodes.document) -> None:
    """The pages of sources link to quantize.example, where api.rst documents quantize.quantize.example."""
    signatures = list(doctree.findall(desc_signature))
    taken = {name for signature in signatures for name in signature["ids"]}
    for signature in signatures:
        for name in list(signature["ids"]):
            short = name.replace("quantize.quantize.", "quantize.", 1)
            if short not in taken:
                signature["ids"].append(short)


def setup(app: Sphinx) -> None:
    app.connect("doctree-read", add_short_anchors)
