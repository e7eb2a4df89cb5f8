"""How Sphinx builds the documentation."""

import sys
from pathlib import Path

import torchbase

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "torchbase"
author = "the torchbase contributors"
copyright = author
release = version = torchbase.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "config_keys", "hook_catalogue"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"torchbase {release}"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]

default_role = "py:obj"  # a name between single backticks in a docstring is a link where there is such an object
add_module_names = False  # the headings of the reference name the packages
autoclass_content = "both"  # the arguments stand at __init__
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # else a dataclass's field is described twice
myst_heading_anchors = 3
