"""Write the C file that turns an environment's header into a description of itself.

Run by CMake: `python describe_env.py HEADER_FOLDER OUTPUT_FOLDER` writes one NAME.c per
header that defines NAME_state, and descriptions.c that lists them. `jaxpuffer.own_header` does the same for one
header of a user. This script only
reads names; types, counts and offsets come from the compiler, which also proves that no
padding hides a field that this script has missed.
"""

import hashlib
import re
import sys
from pathlib import Path

STRUCT = r"typedef\s+struct\s*(?:\w+\s*)?\{([^}]*)\}\s*NAME_KIND\s*;"
ALIAS = r"typedef\s+(\w+)_KIND\s+NAME_KIND\s*;"
COMMENT = r"//[^\n]*|/\*.*?\*/"
TYPES = {
    "params": ("int32_t", "float"),
    "state": ("int32_t", "float", "uint32_t", "uint8_t", "int8_t", "int16_t"),
    "obs": ("float", "int32_t", "uint8_t", "int8_t"),
    "log": ("float",),
}


def struct_fields(name: str, kind: str, folder: Path) -> list[tuple[str, str]]:
    """Each field of NAME_KIND as (name, expression of one entry)."""
    text = re.sub(COMMENT, " ", (folder / f"{name}.h").read_text(), flags=re.DOTALL)
    if alias := re.search(ALIAS.replace("NAME", name).replace("KIND", kind), text):
        return struct_fields(alias[1], kind, folder)
    struct = re.search(STRUCT.replace("NAME", name).replace("KIND", kind), text)
    if struct is None:
        inside = re.search(rf"\}}\s*{name}_{kind}\s*;", text)
        reason = " without structs, unions or enums inside it" if inside else ""
        raise SystemExit(f"{name}.h: no `typedef struct {{...}} {name}_{kind};`{reason} found")
    fields = []
    for declaration in filter(None, (" ".join(part.split()) for part in struct[1].split(";"))):
        base, _, declarators = declaration.partition(" ")
        if base not in TYPES[kind]:
            raise SystemExit(
                f"{name}.h: a field of {name}_{kind} is `{declaration}`; "
                f"its type must be one of {', '.join(TYPES[kind])}, or an array of it"
            )
        for declarator in declarators.split(","):
            if not re.fullmatch(r"\s*\w+\s*(\[[^\]]+\]\s*)*", declarator):
                raise SystemExit(
                    f"{name}.h: a field of {name}_{kind} is `{declaration}`; "
                    "it must be a name or an array, with no pointer and no bit width"
                )
            field, *lengths = declarator.replace("]", "").replace(" ", "").split("[")
            fields.append((field, field + "[0]" * len(lengths)))
    return fields


def missing_functions(name: str, text: str) -> list[str]:
    """The functions that every header has to define and that this one, with this text, does not mention."""
    text = re.sub(COMMENT, " ", text, flags=re.DOTALL)
    several = re.search(rf"\b{name.upper()}_MAX_AGENTS\b", text)
    needed = ("init", "transition", *(("respawn",) if several else ()), "observe", "score")
    return [f"{name}_{x}" for x in needed if not re.search(rf"\b{name}_{x}\b", text)]


def identity(name: str, header: str) -> int:
    """A number for an environment, from its name and its header's text."""
    return int(hashlib.sha256(f"{name}\n{header}".encode()).hexdigest()[:15], 16)


def describe(name: str, folder: Path) -> str:
    """The text of NAME.c.

    Raises:
        SystemExit: the header is not as env.h says.
    """
    source = (folder / f"{name}.h").read_text()
    text = re.sub(COMMENT, " ", source, flags=re.DOTALL)

    def has(function: str) -> int:
        return int(re.search(rf"\b{name}_{function}\(", text) is not None)

    kinds = ["params", "state"]
    kinds += ["obs"] if re.search(rf"\b{name}_obs\b", text) else []
    kinds += ["log"] if has("figures") else []

    multi_agent = has("respawn")
    limit = f"{name.upper()}_MAX_AGENTS"
    if multi_agent and not re.search(rf"\b{limit}\b", text):
        raise SystemExit(f"{name}.h has {name}_respawn and so several agents; it must define {limit}, the maximum")
    tables, counts = [], {"obs": 0, "log": 0}
    for kind in kinds:
        fields = struct_fields(name, kind, folder)
        counts[kind] = len(fields)
        rows = "".join(f"  ENV_FIELD({name}_{kind}, {field}, {entry}),\n" for field, entry in fields)
        tables.append(f"static const env_field {kind}_fields[{len(fields)}] = {{\n{rows}}};\n")
        if kind in ("params", "state"):
            struct, names = f"{name}_{kind}", [field for field, _ in fields]
            ends = [*(f"offsetof({struct}, {field})" for field in names[1:]), f"sizeof({struct})"]
            tables += [f"ENV_NO_PADDING({struct}, {field}, {end});\n" for field, end in zip(names, ends, strict=True)]
    several = "".join(
        f"  .{field} = {kind}_fields,\n  .num_{field} = {counts[kind]},\n"
        for field, kind in (("obs_fields", "obs"), ("figures", "log"))
        if counts[kind]
    )
    return f"""// written by describe_env.py
#include "{name}.h"
#define ENV {name}
#define ENV_MULTI_AGENT {multi_agent}
#define ENV_MAX_AGENTS {limit if multi_agent else "1"}
#define ENV_HAS_PERF {has("perf")}
#define ENV_HAS_ACTION_MASK {has("action_mask")}
#define ENV_HAS_ACTIVE {has("active")}
#define ENV_OBS_PARTS {counts["obs"]}
#define ENV_FIGURES {counts["log"]}
#include "batch.h"

{"".join(tables)}
const env_description {name}_description = {{
  .name = "{name}",
  .id = {identity(name, source)},
  .multi_agent = ENV_MULTI_AGENT,
  .max_agents = ENV_MAX_AGENTS,
  .has_perf = ENV_HAS_PERF,
  .has_action_mask = ENV_HAS_ACTION_MASK,
  .has_active = ENV_HAS_ACTIVE,
  .obs_dtype = ENV_OBS_DTYPE,
  .action_dtype = ENV_ACTION_DTYPE,
  .state_bytes = sizeof(env_state),
  .params_bytes = sizeof(env_params),
  .state_fields = state_fields,
  .num_state_fields = sizeof state_fields / sizeof state_fields[0],
  .param_fields = params_fields,
  .num_param_fields = sizeof params_fields / sizeof params_fields[0],
{several}  .run = batch_run,
}};
"""


def main() -> None:
    headers, output = Path(sys.argv[1]), Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    names = [h.stem for h in sorted(headers.glob("*.h")) if re.search(rf"\b{h.stem}_state\s*;", h.read_text())]
    for name in names:
        (output / f"{name}.c").write_text(describe(name, headers))
    (output / "descriptions.c").write_text(
        '// written by describe_env.py\n#include "batch.h"\n'
        + "".join(f"extern const env_description {name}_description;\n" for name in names)
        + "const env_description *const env_descriptions[] = {"
        + ", ".join(f"&{name}_description" for name in names)
        + f"}};\nconst int64_t num_env_descriptions = {len(names)};\n"
    )


if __name__ == "__main__":
    main()
