"""The documentation: its examples and commands run, and its tables of parameters and the configuration are correct.

A page's blocks of Python are one program, run in order; so are its commands. A block below a line
`<!-- not run: REASON -->` is left out: its imports and flags are checked all the same.
"""

import argparse
import ast
import glob
import importlib
import inspect
import re
import runpy
import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import tyro

import jaxpuffer
from jaxpuffer import LeagueConfig, PPOConfig, cli, list_envs, make
from jaxpuffer.pytree import Parameters, parameter_fields
from jaxpuffer.registry import env_class
from jaxpuffer.spaces import named_parts

ROOT = Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
OPTIONAL = ("gymnasium", "pandas")  # packages that examples import themselves
EVERY_TIME = ("environments.md", "c_environments.md", "write_an_environment.md")  # the other pages with --full

name_of_page = "{0.parent.name}/{0.name}".format


def blocks(page: Path, language: str, left_out: bool = False) -> list[str]:
    """The page's blocks of a language; with `left_out` also those that are not run."""
    found = re.findall(r"^(<!-- not run: [^\n]+ -->\n)?```(\w+)\n(.*?)^```$", page.read_text(), re.S | re.M)
    return [code for reason, kind, code in found if kind == language and (left_out or not reason)]


def command_lines(page: Path, left_out: bool = False) -> list[str]:
    """The commands in a page's blocks of shell commands, each on one line."""
    lines = "".join(blocks(page, "bash", left_out)).replace("\\\n", " ").splitlines()
    return [part.split(" #")[0].strip() for line in lines for part in line.split("&&")]


def commands(page: Path) -> list[str]:
    """Every command of ours in a page's blocks, and those with arguments in its text."""
    ours = re.compile(r"(?:[A-Z_]+=\S+ )*(?:\S*/)?(jaxpuffer|python -m (?:parity|benchmarks)\S*)( .*)?$")
    lines = command_lines(page, left_out=True)
    found = ["".join(filter(None, match.groups())) for line in lines if (match := ours.match(line))]
    found += re.findall(r"`(jaxpuffer \w+ \S[^`]*)`", page.read_text())
    for placeholder, name in {"ENV": "cartpole", "corridor": "cartpole"}.items():
        found = [re.sub(rf"\b{placeholder}\b", name, command) for command in found]
    return sorted({command for command in found if "COMMAND" not in command})


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every training ends after two updates, and files are written to an empty folder."""
    check = PPOConfig.__post_init__

    def shortened(config: PPOConfig) -> None:
        check(config)
        object.__setattr__(config, "total_steps", min(config.total_steps, 2 * config.batch_size))

    monkeypatch.setattr(PPOConfig, "__post_init__", shortened)
    monkeypatch.chdir(tmp_path)


def with_marks(page: Path) -> Any:
    return pytest.param(page, id=name_of_page(page), marks=[] if page.name in EVERY_TIME else pytest.mark.full)


@pytest.mark.needs_c
@pytest.mark.parametrize("page", [with_marks(page) for page in PAGES if blocks(page, "python")])
def test_examples_run(page: Path, short: None) -> None:
    names: dict[str, Any] = {"__name__": "example"}
    for block in blocks(page, "python"):
        try:
            exec(compile(block, str(page), "exec"), names)
        except ImportError as error:
            if "pip install" not in str(error) and error.name not in OPTIONAL:
                raise
            pytest.skip(str(error))


class Parsed(BaseException):
    """The flags of a command were accepted."""


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")  # modules that this process has imported
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=name_of_page)
def test_commands_have_these_flags(page: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    """Commands of the docs are parsed, and stopped before they do anything else."""
    with_tyro, with_argparse = tyro.cli, argparse.ArgumentParser.parse_known_args

    def tyro_only(*args: Any, **kwargs: Any) -> None:
        with_tyro(*args, **kwargs)
        raise Parsed

    def argparse_only(*args: Any, **kwargs: Any) -> None:
        _, rest = with_argparse(*args, **kwargs)
        assert not [flag for flag in rest if flag.startswith("-") and not flag.startswith("--env.")], rest
        raise Parsed

    monkeypatch.setattr(tyro, "cli", tyro_only)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_known_args", argparse_only)
    for command in commands(page):
        program, *args = shlex.split(command)
        if args[0] == "finetune":  # of a run that is not there; it takes the flags of its environment's training
            args[:2] = ["train", Path(args[1]).name.partition("-")[0]]
        try:
            if program == "jaxpuffer":
                cli.main(args)
            else:
                _, module, *args = args
                monkeypatch.setattr(sys, "argv", [module, *args])
                runpy.run_module(module, run_name="__main__", alter_sys=True)
        except Parsed:
            pass
        except SystemExit as stop:
            assert not stop.code, f"{command}: {capsys.readouterr().err}"


@pytest.mark.full
@pytest.mark.needs_c
@pytest.mark.parametrize("page", [page for page in PAGES if "jaxpuffer" in str(commands(page))], ids=name_of_page)
def test_commands_run(page: Path, short: None, capsys: Any) -> None:
    for program, *args in filter(None, map(shlex.split, command_lines(page))):
        args = ["0.1" if before == "--minutes" else arg for before, arg in zip(["", *args], args, strict=False)]
        if Path(program).name == "jaxpuffer":
            try:
                cli.main([path for arg in args for path in sorted(glob.glob(arg)) or [arg]])
            except SystemExit as stop:
                said = capsys.readouterr().err
                if stop.code and "pip install" in said:
                    pytest.skip(said)  # an optional package
                assert not stop.code, f"{args}: {said}"


@pytest.mark.parametrize("page", PAGES, ids=name_of_page)
def test_examples_import_what_there_is(page: Path) -> None:
    """Also in the blocks that are not run here."""
    for block in blocks(page, "python", left_out=True):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, alias.name) for alias in node.names), ast.unparse(node)


def test_api_has_every_public_name() -> None:
    """Each entry of the page is an object with a docstring, and the names of `jaxpuffer` are among them."""
    objects = []
    for path in re.findall(r"^::: (\S+)$", (ROOT / "docs/api.md").read_text(), re.M):
        module, _, name = path.rpartition(".")
        try:
            objects.append(getattr(importlib.import_module(module), name))
        except AttributeError:
            objects.append(importlib.import_module(path))
        assert inspect.getdoc(objects[-1]), path
    missing = [name for name in jaxpuffer.__all__ if not any(getattr(jaxpuffer, name) is known for known in objects)]
    assert not missing


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
    expected = []
    for field, _ in parameter_fields(type(node)):
        default = node.to_dict()[field.name]
        default = "its defaults" if isinstance(default, dict) else str(default)
        expected.append((field.name, default, field.metadata["static"]))
    found = [(name, default.strip(), "static" in kind) for name, default, kind in rows]
    assert [row for row in found if row[0] in {name for name, _, _ in expected}] == expected


def page_of(name: str) -> Path:
    """An environment's page has its name or, of two that share one, that of their module."""
    own = ROOT / f"docs/envs/{name}.md"
    return own if own.exists() else ROOT / f"docs/envs/{env_class(name).__module__.rpartition('.')[2]}.md"


@pytest.mark.parametrize("name", list_envs())
def test_parameters(name: str) -> None:
    check_table(page_of(name), make(name))


@pytest.mark.parametrize("name", list_envs())
def test_an_observation_is_the_same_everywhere(name: str) -> None:
    """Class, header and page begin with the same text, such as `float32 (8,)`, of several parts `tiles int8 (5, 5),
    numbers float32 (2,)`; where a shape is numbers, it equals the space's."""
    env = make(name)
    page = page_of(name).read_text()
    match = re.search(r"^## Observation\n+`([^`]*)`", page, re.M)
    assert match
    said = match[1]
    header = ROOT / f"envs_c/{name}.h"
    docstring = inspect.getdoc(type(env)) or ""
    if "Observation:" in docstring:  # otherwise its base class has it
        assert f"Observation: {said}" in docstring
        assert re.search(rf"^// observation +{re.escape(said)}", header.read_text(), re.M)
    parts = named_parts(env.observation_space)
    texts = re.findall(r"(\w+) (\w+) (\([^)]*\))", said) if parts[0][0] else [("", *said.split(" ", 1))]
    assert [(name, dtype) for name, dtype, _ in texts] == [(name, space.dtype.name) for name, space in parts]
    for (_, _, shape), (_, space) in zip(texts, parts, strict=True):
        if re.fullmatch(r"[(), 0-9]+", shape):
            assert ast.literal_eval(shape) == space.shape


def test_configuration() -> None:
    check_table(ROOT / "docs/training.md", PPOConfig())
    page = (ROOT / "docs/self_play.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \| ([^|]+) \|", page, re.M))
    assert {name: default.strip('"') for name, default in rows.items()} == {
        name: str(default) for name, default in LeagueConfig().to_dict().items()
    }
