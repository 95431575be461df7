"""The directive `{playground}` on a page of prose."""

import pytest
from sphinx.cmd.build import main

CONF = """
from jepa_utils.publishing.sphinx_extension import Playground
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}  # whatever else was built in this process
def setup(app):
    app.add_directive("playground", Playground)
"""


def build(folder, name: str) -> int:
    (folder / "conf.py").write_text(CONF)
    (folder / "index.md").write_text(f"# Test\n\n```{{playground}} {name}\n```\n")
    return main(["-q", "-n", "-W", "--keep-going", str(folder), str(folder / "_build")])


@pytest.mark.parametrize("name", ["sigreg", "hero"])
def test_a_page_holds_the_playground_as_the_package_makes_it(name, tmp_path):
    from jepa_utils.figures.play import play_html
    from jepa_utils.figures.playgrounds import PLAYGROUNDS

    assert build(tmp_path, name) == 0
    assert play_html(name, **PLAYGROUNDS[name]()) in (tmp_path / "_build/index.html").read_text()


def test_an_unknown_playground_is_named(tmp_path, capfd):
    assert build(tmp_path, "sigrek") != 0
    assert "playground is 'sigrek', wants one of sigreg, hero" in capfd.readouterr().err
