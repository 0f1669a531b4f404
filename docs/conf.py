"""The documentation as a site: `python -m sphinx -W --keep-going -n -b html -c docs . build/site`.

Sphinx reads the pages where they lie, from the root of the repository, so that a link between two pages is the same on the
site and in the repository. Notebooks are shown with the outputs that they are stored with, and not run. The API reference
(docs/api) comes from the docstrings; a public name that it lacks is a warning, and warnings are errors.
"""

import importlib
import inspect
import os
import pathlib
import re
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ["KERAS_BACKEND"] = "tensorflow"
ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from sphinx.util import logging  # noqa: E402 (the environment is set first)

import innvest_lite  # noqa: E402

project = "innvest_lite"
author = "The innvest_lite developers"
release = version = innvest_lite.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "README"
include_patterns = ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/**", "notebooks/*", "innvest_lite/data/README.md"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb"}
highlight_language = "none"
suppress_warnings = ["misc.highlighting_failure"]

html_theme = "furo"
html_title = f"innvest_lite {release}"
html_extra_path = ["site/index.html"]
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_copy_source = False

myst_heading_anchors = 3
nb_execution_mode = "off"
autodoc_default_options = {"members": True, "imported-members": True}
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
# Attributes are told in a list, as arguments are; many are documented as properties too.
napoleon_use_ivar = True
# In docstrings, `x` is code, and a link where it names something of this package.
default_role = "py:obj"
nitpick_ignore_regex = [("py:.*", ".*")]

# What docs/api has to show, by its address.
PUBLIC = (
    *("callbacks", "data", "datasets", "errors", "export", "forms", "graph", "images", "metrics", "patterns"),
    *("preprocessing", "report", "rules", "visualize"),
)
# What stands behind the README on the site, and where.
CONTENTS = """

```{toctree}
:hidden:
:caption: Use
Methods <docs/methods>
LRP <docs/lrp>
Fitting patterns <docs/fitting>
Preprocessing <docs/preprocessing>
Pictures <docs/pictures>
Report and callback <docs/report>
Texts and tokens <docs/texts>
Models that people have <docs/models>
Command line <docs/command_line>
notebooks/README
```

```{toctree}
:hidden:
:caption: Trust
Which to trust <docs/trust>
Evaluation <docs/evaluation>
Where the truth is known <docs/ground_truth>
Attention and recurrence <docs/sequences>
Beyond the paper's networks <docs/evidence>
Speed <docs/speed>
```

```{toctree}
:hidden:
:caption: Deploy and extend
Serving <docs/serving>
Layers and rules of your own <docs/layers>
Coming from iNNvestigate <docs/innvestigate>
docs/design
CONTRIBUTING
CHANGELOG
```

```{toctree}
:hidden:
:caption: Reference
docs/api/README
All pages <docs/README>
The demo's digits <innvest_lite/data/README>
```
"""
TUTORIALS = """

```{toctree}
:hidden:
:glob:
*
```
"""

_log = logging.getLogger(__name__)


def read(app, docname, source):
    """The first page, and that of the notebooks, get the table of contents, which a repository would show as text."""
    if docname in ("README", "notebooks/README"):
        source[0] += CONTENTS if docname == "README" else TUTORIALS


def home_of(name):
    """Where the reference shows a name of a module: at the package itself, where the package has it."""
    return "innvest_lite" if name in innvest_lite.__all__ else None


def skip(app, what, name, value, skipped, options):
    """Leaves out what another page shows: names of the package itself, and others' names in modules without `__all__`."""
    module = importlib.import_module(app.env.temp_data.get("autodoc:module") or "innvest_lite")
    if what != "module" or module is innvest_lite:
        return skipped
    foreign = not hasattr(module, "__all__") and getattr(value, "__module__", module.__name__) != module.__name__
    return skipped or foreign or home_of(name) is not None


def escape(app, what, name, value, options, lines):
    """Docstrings are written for readers of the source: |x| is no substitution, and `Sample`s ends behind the s."""
    for place, line in enumerate(lines):
        if not line.lstrip().startswith(">>>"):
            lines[place] = re.sub(r"(?<!`)(`[^`]+`)(?=\w)", r"\1\\ ", re.sub(r"(?<!\\)\|", r"\\|", line))


def signature(app, what, name, value, options, arguments, returned):
    """What a class takes is said by its `__init__`; Keras's classes have a `__new__` that takes anything."""
    if what != "class" or arguments != "(*args, **kwargs)":
        return None
    own = inspect.signature(value.__init__)
    return str(own.replace(parameters=list(own.parameters.values())[1:], return_annotation=own.empty)), None


def missing(app, environment):
    """Warns of public names that the reference lacks."""
    shown = {name for name, *_ in environment.domains.python_domain.get_objects()}
    names = {f"innvest_lite.{name}" for name in innvest_lite.__all__ if name != "__version__"}
    for name in PUBLIC:
        module = importlib.import_module(f"innvest_lite.{name}")
        public = getattr(module, "__all__", None) or [n for n, v in vars(module).items() if is_own(module, n, v)]
        names |= {f"{home_of(n) or module.__name__}.{n}" for n in public}
    for name in sorted(names - shown):
        _log.warning("The API reference (docs/api) lacks %s.", name)


def is_own(module, name, value):
    """Whether a module without `__all__` defines a public name."""
    return name[0] != "_" and getattr(value, "__module__", None) == module.__name__


def setup(app):
    """Called by Sphinx."""
    app.connect("source-read", read)
    app.connect("autodoc-skip-member", skip)
    app.connect("autodoc-process-docstring", escape)
    app.connect("autodoc-process-signature", signature)
    app.connect("env-check-consistency", missing)
