"""Configuration of `make docs`, which builds the pages of this folder and the API reference into a site."""

import importlib.metadata
import re

project = "lga_jax"
author = copyright = "the authors of lga_jax"
release = importlib.metadata.version("lga_jax")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx.ext.apidoc"]
# The source folder is the whole repository, so that links to the README or to a table work on the site.
root_doc = "docs/index"
include_patterns = ["*.md", "docs/**", "benchmarks/**.md", "studies/**.md"]
exclude_patterns = ["docs/_site"]
suppress_warnings = ["myst.header"]  # generated tables start with a second-level heading
html_theme = "furo"
html_title = f"lga_jax {release}"

# Links between pages work on GitHub and on the site: paths with #headings in GitHub's form.
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

# One reference page for each module, rebuilt every time.
apidoc_modules = [
    {
        "path": "../lga_jax",
        "destination": "docs/reference",
        "separate_modules": True,
        "max_depth": 4,
        "automodule_options": {"members", "show-inheritance"},
    }
]
autodoc_default_options = {"ignore-module-all": True}  # names that a package re-exports appear in their own module
autodoc_mock_imports = ["mlflow", "wandb"]  # extras
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
add_module_names = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
default_role = "code"


def _as_rst(app: object, what: str, name: str, thing: object, options: object, lines: list[str]) -> None:
    """Docstrings are plain text with `code` and indented blocks; the builder wants reStructuredText."""
    text: list[str] = []
    for line in lines:
        before = next((earlier for earlier in reversed(text) if earlier.strip()), "")
        indented, begins = line.startswith("    "), bool(text) and not text[-1].strip()
        if indented and begins and not before.startswith(" ") and not before.endswith("::"):
            text += ["::", ""]
        text.append(line if indented else re.sub(r"(?<=\w)_(?!\w)|\*", r"\\\g<0>", line))
    lines[:] = text


def setup(app: object) -> None:
    """Called by the builder."""
    app.connect("autodoc-process-docstring", _as_rst, priority=100)  # before napoleon, which reads Args and Returns
