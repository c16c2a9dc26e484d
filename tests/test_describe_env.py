"""describe_env.py reads an author's header, or says in one line what it cannot read."""

import importlib.util
from pathlib import Path

import pytest

SPEC = importlib.util.spec_from_file_location("describe_env", Path(__file__).parents[1] / "envs_c" / "describe_env.py")
assert SPEC is not None and SPEC.loader is not None
describe_env = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(describe_env)

PARAMS = "typedef struct { int32_t size; } own_params;\n"


def fields(tmp_path: Path, state: str, kind: str = "state") -> list[tuple[str, str]]:
    (tmp_path / "own.h").write_text(PARAMS + state)
    return describe_env.struct_fields("own", kind, tmp_path)


@pytest.mark.parametrize(
    "state",
    [
        "typedef struct { uint32_t rng[2]; float x, y; int32_t cells[3][4]; } own_state;",
        "typedef struct own_tag { uint32_t rng[2]; float x, y; int32_t cells[3][4]; } own_state;",
        "typedef struct own_tag{uint32_t rng[2];float x,y;int32_t cells[ 3 ] [4];}own_state ;",
        "typedef struct {\n  uint32_t rng[2];  /* a stream; two\n words */\n  float x, y;  // px; {of 8}\n"
        "  int32_t cells[3]  [4];\n} own_state;  /* done */",
    ],
)
def test_a_struct_is_read(tmp_path: Path, state: str) -> None:
    expected = [("rng", "rng[0]"), ("x", "x"), ("y", "y"), ("cells", "cells[0][0]")]
    assert fields(tmp_path, state) == expected


@pytest.mark.parametrize(
    ("field", "message"),
    [
        ("int n;", r"own_state is `int n`; its type must be one of int32_t, float, .*uint8_t"),
        ("int64_t n;", "`int64_t n`; its type must be one of"),
        ("unsigned int n;", "`unsigned int n`; its type"),
        ("double x;", "`double x`; its type"),
        ("const float x;", "`const float x`; its type"),
        ("struct { float x; } inner;", "no .* without structs, unions or enums inside"),
        ("struct point p;", "`struct point p`; its type"),
        ("float *x;", r"`float \*x`; it must be a name or an array, with no pointer"),
        ("int32_t (*act)(int32_t);", "no pointer"),
        ("int32_t flag : 1;", "no bit width"),
    ],
)
def test_what_cannot_be_a_field_is_named(tmp_path: Path, field: str, message: str) -> None:
    with pytest.raises(SystemExit, match=f"own.h: .*{message}"):
        fields(tmp_path, f"typedef struct {{ uint32_t rng[2]; {field} }} own_state;")


def test_parameters_are_whole_numbers_and_floats(tmp_path: Path) -> None:
    assert fields(tmp_path, "", "params") == [("size", "size")]
    with pytest.raises(SystemExit, match="no .* own_state;. found"):
        fields(tmp_path, "")
    (tmp_path / "own.h").write_text("typedef struct { uint8_t size; } own_params;")
    with pytest.raises(SystemExit, match="own_params is `uint8_t size`; its type must be one of int32_t, float"):
        describe_env.struct_fields("own", "params", tmp_path)


def test_several_agents_need_a_limit(tmp_path: Path) -> None:
    header = PARAMS + "typedef struct { uint32_t rng[2]; } own_state;\nvoid own_respawn(int32_t *ended);\n"
    (tmp_path / "own.h").write_text(header + "// OWN_MAX_AGENTS is missing\n")
    with pytest.raises(SystemExit, match="own.h has own_respawn .*; it must define OWN_MAX_AGENTS"):
        describe_env.describe("own", tmp_path)
    (tmp_path / "own.h").write_text(header + "enum { OWN_MAX_AGENTS = 4 };\n")
    assert "#define ENV_MAX_AGENTS OWN_MAX_AGENTS" in describe_env.describe("own", tmp_path)
