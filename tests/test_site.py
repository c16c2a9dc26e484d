"""The documentation's site builds without a warning, and reads without a network."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_site_builds_and_loads_nothing_from_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = pytest.importorskip("mkdocs.config", reason="pip install '.[docs]'")
    build = pytest.importorskip("mkdocs.commands.build")
    pytest.importorskip("mkdocstrings")
    monkeypatch.chdir(ROOT)
    build.build(config.load_config("mkdocs.yml", strict=True, site_dir=str(tmp_path)))
    pages = list(tmp_path.rglob("*.html"))
    assert len(pages) > len(list(ROOT.glob("docs/**/*.md")))  # and the page for what is not found
    for page in pages:
        loaded = re.findall(
            r'<(?:script|link|img|iframe)[^>]+?(?:src|href)="?((?:https?:)?//[^">\s]+)', page.read_text()
        )
        assert not loaded, (page, loaded)
    # the API's entries come from docstrings
    api = (tmp_path / "api/index.html").read_text()
    assert 'id="jaxpuffer.ppo.train"' in api and "compiles once per kind of environment" in api
