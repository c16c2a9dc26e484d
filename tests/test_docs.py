"""The documentation: its examples run, and its tables of parameters and of the configuration are correct."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from jaxpuffer import PPOConfig, list_envs, make
from jaxpuffer.pytree import Parameters, parameter_fields
from jaxpuffer.registry import env_class

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])

name_of_page = "{0.parent.name}/{0.name}".format


def blocks(page: Path) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", page.read_text(), re.S | re.M)


@pytest.mark.needs_c
@pytest.mark.parametrize("page", ["environments", "c_environments", "adapters_out", "write_an_environment"])
def test_examples_run(page: str) -> None:
    """The blocks of a page in order, as one program."""
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks(ROOT / f"docs/{page}.md"):
        exec(compile(block, f"docs/{page}.md", "exec"), names)


@pytest.mark.parametrize("page", PAGES, ids=name_of_page)
def test_examples_import_what_there_is(page: Path) -> None:
    """Also on the pages whose examples take too long to be run here."""
    for block in blocks(page):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_every_page_is_in_the_navigation() -> None:
    listed = set(re.findall(r": (\S+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.M))
    assert listed == {str(page.relative_to(ROOT / "docs")) for page in PAGES if page.is_relative_to(ROOT / "docs")}


@pytest.mark.parametrize("page", PAGES, ids=name_of_page)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
        assert (page.parent / target).exists(), target


def check_table(page: Path, node: Parameters) -> None:
    """Every field has a row `| name | default | ... static or not ... |`, in the class's order."""
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]*)\|", page.read_text(), re.M)
    expected = [
        (field.name, str(node.to_dict()[field.name]), field.metadata["static"])
        for field, _ in parameter_fields(type(node))
    ]
    found = [(name, default.strip(), "static" in kind) for name, default, kind in rows]
    assert [row for row in found if row[0] in {name for name, _, _ in expected}] == expected


@pytest.mark.parametrize("name", list_envs())
def test_parameters(name: str) -> None:
    """An environment's page has the name of its module."""
    module = env_class(name).__module__.rpartition(".")[2]
    check_table(ROOT / f"docs/envs/{module}.md", make(name))


@pytest.mark.parametrize("name", list_envs())
def test_an_observation_is_the_same_everywhere(name: str) -> None:
    """Class, header and page begin with the same text, such as `float32 (8,)`; if it is numbers, it equals the
    space."""
    env = make(name)
    page = (ROOT / f"docs/envs/{type(env).__module__.rpartition('.')[2]}.md").read_text()
    match = re.search(r"^## Observation\n+`([^`]*)`", page, re.M)
    assert match
    said = match[1]
    header = ROOT / f"envs_c/{name}.h"
    docstring = inspect.getdoc(type(env)) or ""
    if "Observation:" in docstring:  # otherwise its base class has it
        assert f"Observation: {said}" in docstring
        assert re.search(rf"^// observation +{re.escape(said)}", header.read_text(), re.M)
    space = env.observation_space
    dtype, _, shape = said.partition(" ")
    assert dtype == space.dtype.name
    if re.fullmatch(r"[(), 0-9]+", shape):
        assert ast.literal_eval(shape) == space.shape


def test_configuration() -> None:
    check_table(ROOT / "docs/training.md", PPOConfig())
