"""The mutants of a JAX port: its syntax tree with one constant, comparison or operator changed."""

import ast
import collections
import dataclasses
import inspect
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

# in the order in which they are judged: cheap ones first
FUNCTIONS = ("score", "perf", "figures", "active", "action_mask", "observe", "respawn", "init", "transition")
NOT_COMPUTED = ("render", "player", "events", "__post_init__")

COMPARISONS: dict[type, type] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
}  # fmt: skip
OPERATORS: dict[type, type] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Add, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mod, ast.Mod: ast.FloorDiv, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd, ast.LShift: ast.RShift, ast.RShift: ast.LShift,
}  # fmt: skip
SYMBOLS: dict[type, str] = {
    ast.Lt: "<", ast.LtE: "<=", ast.Gt: ">", ast.GtE: ">=", ast.Eq: "==", ast.NotEq: "!=", ast.Add: "+",
    ast.Sub: "-", ast.Mult: "*", ast.Div: "/", ast.Pow: "**", ast.FloorDiv: "//", ast.Mod: "%", ast.BitAnd: "&",
    ast.BitOr: "|", ast.BitXor: "^", ast.LShift: "<<", ast.RShift: ">>", ast.USub: "-", ast.Invert: "~",
}  # fmt: skip


@dataclasses.dataclass
class Mutant:
    """One change of a syntax tree."""

    function: str  # the one that contains it; for a module's constant, "module"
    line: int
    source: str  # the line's text
    change: str  # such as "< to <=", with a number if the line, or an equal one of the function, had one before
    judged_by: tuple[str, ...]  # the computing functions that reach it
    alter: Callable[[], None]
    restore: Callable[[], None]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.function, self.source, self.change

    def __str__(self) -> str:
        return f"line {self.line}, {self.function}: {self.change}: {self.source}"


class Source:
    """The syntax tree of an environment's module and its mutants."""

    def __init__(self, cls: type) -> None:
        module = sys.modules[cls.__module__]
        self.cls, self.file = cls, str(module.__file__)
        self.text = inspect.getsource(module)
        self.tree = ast.parse(self.text)
        self.mutants = list(self._mutants())

    def module(self, mutant: Mutant | None = None) -> types.ModuleType:
        """The module, executed again, changed or unchanged."""
        if mutant:
            mutant.alter()
        try:
            code = compile(self.tree, self.file, "exec")
        finally:
            if mutant:
                mutant.restore()
        module = types.ModuleType("mutant")
        sys.modules["mutant"] = module
        exec(code, module.__dict__)
        return module

    def constants(self) -> list[float]:
        """Every number in the computing code, and the values of its module constants."""
        values = {0.0, 1.0}
        module = sys.modules[self.cls.__module__]
        for node, _ in self._reached():
            values |= {float(n.value) for n in ast.walk(node) if _is_number(n)}  # type: ignore[attr-defined]
            for name in _assigned(node):
                value = getattr(module, name, None)
                if isinstance(value, (int, float)):
                    values.add(float(value))
        return sorted(values | {-v for v in values})

    def _definitions(self) -> dict[str, list[ast.stmt]]:
        """Name -> its definition: functions and constants of the module, methods of its classes."""
        found: dict[str, list[ast.stmt]] = collections.defaultdict(list)
        from jaxpuffer.env import Env

        classes = [c.__name__ for c in self.cls.__mro__ if c.__module__ == self.cls.__module__]
        bodies: dict[str, list[ast.stmt]] = {}
        for node in self.tree.body:
            if isinstance(node, ast.FunctionDef):
                found[node.name].append(node)
            elif isinstance(node, ast.ClassDef):
                bodies[node.name] = node.body
            for part in _parts(node):
                for name in _assigned(part):
                    found[name].append(part)
        own: dict[str, ast.stmt] = {}
        others = [n for n in bodies if not issubclass(getattr(sys.modules[self.cls.__module__], n), Env)]
        for name in [*others, *reversed(classes)]:
            for node in bodies[name]:
                if isinstance(node, ast.FunctionDef) and node.name not in NOT_COMPUTED:
                    if node.name in own and not _uses(node, "super"):
                        found[node.name].remove(own[node.name])
                    if name in classes:
                        own[node.name] = node
                    found[node.name].append(node)
        return found

    def _reached(self) -> list[tuple[ast.stmt, tuple[str, ...]]]:
        """Each definition that computing functions reach, and these functions."""
        definitions = self._definitions()
        by: dict[ast.stmt, list[str]] = collections.defaultdict(list)
        for function in FUNCTIONS:
            # if an environment defines no perf, it is the score
            waiting = [function, "score"] if function == "perf" and "perf" not in definitions else [function]
            seen = set(waiting)
            while waiting:
                for node in definitions.get(waiting.pop(), ()):
                    if function not in by[node]:
                        by[node].append(function)
                    new = _names(node) - seen
                    seen |= new
                    waiting += sorted(new)
        return [(node, tuple(functions)) for node, functions in by.items()]

    def _mutants(self) -> Iterator[Mutant]:
        lines = self.text.splitlines()
        found = []
        for node, judged_by in self._reached():
            function = node.name if isinstance(node, ast.FunctionDef) else "module"
            for line, column, change, alter, restore in _alterations(node):
                found.append((line, column, change, function, judged_by, alter, restore))
        repeated: collections.Counter[tuple[str, str, str]] = collections.Counter()
        for line, _, change, function, judged_by, alter, restore in sorted(found, key=lambda m: m[:3]):
            source = lines[line - 1].strip()
            repeated[function, source, change] += 1
            number = repeated[function, source, change]
            text = f"{change} #{number}" if number > 1 else change
            yield Mutant(function, line, source, text, judged_by, alter, restore)


def _assigned(node: ast.stmt) -> list[str]:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [n.id for target in targets for n in ast.walk(target) if isinstance(n, ast.Name)]


def _parts(node: ast.stmt) -> list[ast.stmt]:
    """`a, b = 1, 2` as two assignments."""
    if isinstance(node, ast.Assign) and isinstance(node.value, ast.Tuple) and isinstance(node.targets[0], ast.Tuple):
        pairs = zip(node.targets[0].elts, node.value.elts, strict=True)
        return [ast.Assign(targets=[target], value=value) for target, value in pairs]
    return [node]


def _computing(node: ast.AST) -> Iterator[ast.AST]:
    """The nodes below this one that compute."""
    for field, value in ast.iter_fields(node):
        if field in ("annotation", "returns"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, (ast.Raise, ast.Assert)):
                yield child
                yield from _computing(child)


def _names(node: ast.AST) -> set[str]:
    nodes = list(_computing(node))
    return {n.id for n in nodes if isinstance(n, ast.Name)} | {n.attr for n in nodes if isinstance(n, ast.Attribute)}


def _uses(node: ast.AST, name: str) -> bool:
    return name in _names(node)


def _is_number(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and type(node.value) in (int, float)


def _alterations(
    definition: ast.stmt,
) -> Iterator[tuple[int, int, str, Callable[[], None], Callable[[], None]]]:
    """(line, column, change, alter, restore) of each change of a definition."""

    def setting(owner: Any, key: Any, new: Any) -> tuple[Callable[[], None], Callable[[], None]]:
        if isinstance(owner, list):
            old = owner[key]
            return lambda: owner.__setitem__(key, new), lambda: owner.__setitem__(key, old)
        old = getattr(owner, key)
        return lambda: setattr(owner, key, new), lambda: setattr(owner, key, old)

    for node in _computing(definition):
        if isinstance(node, ast.Constant) and _is_number(node):
            value: Any = node.value
            new = value + 1 if isinstance(value, int) else value * 1.1 if value else 0.1
            yield node.lineno, node.col_offset, f"{value!r} to {new!r}", *setting(node, "value", new)
        elif isinstance(node, (ast.BinOp, ast.AugAssign)) and type(node.op) in OPERATORS:
            before = node.left if isinstance(node, ast.BinOp) else node.target
            new = OPERATORS[type(node.op)]
            change = f"{SYMBOLS[type(node.op)]} to {SYMBOLS[new]}"
            yield _end_line(before), before.end_col_offset or 0, change, *setting(node, "op", new())
        elif isinstance(node, ast.Compare):
            for i, (before, op) in enumerate(zip([node.left, *node.comparators], node.ops, strict=False)):
                if type(op) in COMPARISONS:
                    new = COMPARISONS[type(op)]
                    change = f"{SYMBOLS[type(op)]} to {SYMBOLS[new]}"
                    yield _end_line(before), before.end_col_offset or 0, change, *setting(node.ops, i, new())
        elif isinstance(node, ast.UnaryOp) and type(node.op) in SYMBOLS:
            # a plus in its place does nothing
            yield node.lineno, node.col_offset, f"drop {SYMBOLS[type(node.op)]}", *setting(node, "op", ast.UAdd())


def _end_line(node: ast.expr) -> int:
    return node.end_lineno or node.lineno
