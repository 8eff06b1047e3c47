"Settings of Sphinx; what it reads, docs/build.py prepares."
from configparser import ConfigParser
from pathlib import Path

from latex2mathml.converter import convert

ROOT = Path(__file__).resolve().parents[1]
_ini = ConfigParser(delimiters=['='])
_ini.read(ROOT/'settings.ini', encoding='utf-8')

project, version = _ini['DEFAULT']['title'], _ini['DEFAULT']['version']
copyright, release = _ini['DEFAULT']['copyright'], version
extensions = ['myst_nb']
myst_enable_extensions = ['dollarmath', 'amsmath']
myst_heading_anchors = 3
nb_execution_mode = 'off'                          # the notebooks carry their outputs
nb_render_markdown_format = 'myst'          # tables that cells make lead to pages, as prose does
nb_code_prompt_show = 'Show set-up or solution'
python_maximum_signature_line_length = 88
python_use_unqualified_type_names = True
add_module_names = False
html_theme = 'furo'
html_title = f'{project} {version}'
html_static_path, html_css_files = ['static'], ['wide.css']
html_search_scorer = str(ROOT/'docs'/'static'/'scorer.js')
html_math_renderer = 'mathml'
html_copy_source = html_show_sourcelink = False    # notebooks: the badge opens them
html_theme_options = {'light_css_variables': {'code-font-size': '.75rem'}}


def _formula(display):
    "TeX to MathML, which browsers draw by themselves: no script, no font, no request."
    def visit(self, node):
        from docutils.nodes import SkipNode
        self.body.append(convert(node.astext(), display=display))
        raise SkipNode
    return visit, None


def setup(app): app.add_html_math_renderer('mathml', _formula('inline'), _formula('block'))
