# SPDX-License-Identifier: Apache-2.0
"""How Sphinx makes the site of this folder: ``sphinx-build -W notebooks site``. It runs every notebook, offline."""

import html
import re
import sys
from inspect import cleandoc
from pathlib import Path

import jupytext
from docutils.nodes import SkipNode, Text, entry, literal, literal_block
from latex2mathml.converter import convert

HERE = Path(__file__).parent

project = "intsim"
author = "intsim's authors"
html_title = "intsim"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "sphinx_click"]

# pages are Markdown and the Python files here that are notebooks
sys.path.insert(0, str(HERE))
nb_custom_formats = {".py": "conf.read_notebook"}
scripts = [path for path in HERE.rglob("*.py") if "\n# %%" not in path.read_text(encoding="utf-8")]
exclude_patterns = [*(str(path.relative_to(HERE)) for path in scripts), "**.ipynb"]  # these are readers' own copies
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "cache"  # beside the site: a page that has not changed is not run again
nb_execution_raise_on_error = True
nb_execution_timeout = 600
nb_merge_streams = True
nb_code_prompt_show = "The figure's code"
nb_code_prompt_hide = "Hide the figure's code"
highlight_language = "none"  # where none is named
smartquotes = False  # --option is not a dash, and a quoted word is typed as it stands

autodoc_default_options = {"members": True, "undoc-members": True, "member-order": "bysource"}
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = ["Bounds", "Error", "Source", ("Yields", "returns_style")]

html_theme = "furo"
html_static_path = ["site.css"]
html_css_files = ["site.css"]
html_show_copyright = False
html_math_renderer_name = "mathml"


def _mathml(self, node):
    """Write a formula as browsers draw it themselves: without scripts from elsewhere."""
    formula = convert(node.astext(), display="block" if node.tagname == "math_block" else "inline")
    opening = r"(<mo[^>]*>(?:[\[(,]|&#x0002[8C];|&#x0003D;)</mo>)<mo>(?=&#x02212;)"  # a sign behind it is no minus
    formula = re.sub(opening, r'\1<mo form="prefix">', formula)
    self.body.append(f'<div class="formula">{formula}</div>' if node.tagname == "math_block" else formula)
    raise SkipNode


def _literal(self, node):
    """Write code; within a table a long name may go on in the next line after a point."""
    if not isinstance(node.parent.parent, entry):
        type(self).visit_literal(self, node)
        return
    code = re.sub(r"([./:=])(?=\w)", r"\1<wbr>", html.escape(node.astext(), quote=False))
    self.body.append(f'<code class="docutils literal notranslate">{code}</code>')
    raise SkipNode


def read_notebook(text):
    """Return a notebook without the line of its licence; its cells may have magics; what is hidden are solutions.

    A cell's ``alt`` is the text for those who do not see the figure.
    """
    notebook = jupytext.reads(text, fmt="py:percent")
    notebook.metadata["language_info"] = {"name": "python", "pygments_lexer": "ipython3"}
    notebook.cells = [cell for cell in notebook.cells if not cell.source.startswith("# SPDX-License-Identifier")]
    for cell in notebook.cells:
        if alt := cell.metadata.get("alt"):
            cell.metadata["mystnb"] = {"image": {"alt": alt}}
        if "hide-cell" in cell.metadata.get("tags", []):
            cell.metadata["mystnb"] = {"code_prompt_show": "A solution", "code_prompt_hide": "Hide the solution"}
    return notebook


def _skip(app, what, name, value, skip, options):
    """Leave undocumented members of classes out: the docstring of the class has its fields."""
    text = getattr(value, "__doc__", None)
    if what == "class" and (type(value).__module__.startswith("sphinx") or not text or text.startswith("Alias for")):
        return True
    return None


def _plain(app, what, name, value, options, lines):
    """Leave out what a constant has of its type, and keep napoleon from taking what precedes a colon for a type."""
    if what in ("data", "attribute", "property"):
        of_type = cleandoc(getattr(value, "__doc__", None) or "").splitlines()
        if what == "data" and of_type and lines[:1] == of_type[:1]:
            del lines[: len(of_type)]
        lines.insert(0, "")


def _escape(app, what, name, value, options, lines):
    """Take |x| as it is meant, not as a substitution, but as it is between backquotes and in code; link to pages."""
    code = None  # the indentation of what announces code
    for i, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if code is not None and line.strip() and indent <= code:
            code = None
        if code is None and line.lstrip().startswith(">>> "):
            code = indent - 1
        if code is None:
            linked = re.sub(r"notebooks/((?:course|guides|reference)/\w+)\.(?:md|py)", r":doc:`/\1`", name_arrays(line))
            pieces = linked.split("``")
            lines[i] = "``".join(piece if n % 2 else piece.replace("|", r"\|") for n, piece in enumerate(pieces))
            if line.endswith("::"):
                code = indent


def _typed(app, context, lines):
    """Show as code what a command's help leaves in lines of their own."""
    for i in reversed([i for i, line in enumerate(lines) if line.startswith("| ")]):
        begins = i == 0 or not lines[i - 1].startswith("| ")
        lines[i : i + 1] = [*([".. code-block:: bash", ""] if begins else []), f"    {lines[i].removeprefix('| ')}"]


def name_arrays(annotation):
    """Call an array what it is of: its type in full is longer than a line."""
    array = r"~?numpy\.ndarray\[tuple\[(?:~?typing\.)?Any, \.\.\.\], ~?numpy\.dtype\[(?:~?(?:numpy|typing)\.)?(\w+)\]\]"
    elements = {"integer": "integers", "floating": "floats", "bool": "booleans", "Any": "array"}
    annotation = re.sub(r"[~\w.]*_Buffer \| .*?\[complex \| bytes \| str\]", "array_like", annotation)
    return re.sub(array, lambda found: elements.get(found[1], found[1]), annotation)


def _name_arrays(app, domain, kind, content):
    for types in app.env.current_document.autodoc_annotations.values():
        for name, annotation in types.items():
            types[name] = name_arrays(annotation)


def _typeset(app, doctree):
    """Show a cell of the shell without the line that says so, and autodoc's dashes as dashes."""
    for cell in doctree.findall(literal_block):
        if cell.astext().startswith("%%bash"):
            typed = cell.astext().partition("\n")[2]
            cell.rawsource, cell["language"], cell.children = typed, "bash", []
            cell.append(Text(typed))
    for dash in [text for text in doctree.findall(Text) if text.startswith((" -- ", ") -- "))]:
        dash.parent.replace(dash, Text(dash.replace(" -- ", " \N{EN DASH} ", 1)))


def setup(app):
    app.connect("doctree-read", _typeset)
    app.connect("object-description-transform", _name_arrays, priority=400)  # before autodoc writes them
    app.add_html_math_renderer("mathml", (_mathml, None), (_mathml, None))
    app.connect("autodoc-skip-member", _skip)
    app.add_node(literal, override=True, html=(_literal, lambda self, node: type(self).depart_literal(self, node)))
    app.connect("autodoc-process-docstring", _plain, priority=400)  # before napoleon reads them
    app.connect("autodoc-process-docstring", _escape)
    app.connect("sphinx-click-process-description", _typed)
