"""The documentation site: sphinx-build -W docs docs/_build (make docs)."""

from importlib.metadata import version as version_of

project = "Pruning and retraining benchmark"
version = release = version_of("pruning-and-retraining-benchmark")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = project
autodoc_member_order = "bysource"
autodoc_typehints = "description"
myst_heading_anchors = 3
suppress_warnings = ["myst.xref_missing"]  # pages link to files of the repository, which are no pages
