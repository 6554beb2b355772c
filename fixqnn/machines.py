"""Machines by name, as the command line takes them: ``hw_models:systolic(partial=16)``, ``my_file.py:my_array``.

Arguments are literals, read from the syntax tree; nothing in the text is ever evaluated. The module or file that it
names is imported, as ``python`` would.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import re
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType
from typing import Any

from fixqnn.accelerator import Accelerator
from fixqnn.errors import BadInput, FixqnnError

CATALOGUE = "hw_models"
_REFERENCE = re.compile(r"^(?:(?P<where>.+?\.py|[A-Za-z_][\w.]*):)?(?P<call>[A-Za-z_]\w*\s*(?:\(.*\))?)$", re.DOTALL)


@dataclass(frozen=True)
class Reference:
    """What a text such as ``my_file.py:my_array(rows=8)`` names.

    Attributes
    ----------
    where : str
        A file ending in ``.py``, or a module.
    name : str
        What to take from it.
    positional, named : tuple and mapping
        Literal arguments.
    called : bool
        Whether the text had parentheses.
    """

    where: str
    name: str
    positional: tuple[Any, ...] = ()
    named: Mapping[str, Any] = field(default_factory=dict)
    called: bool = False


def parse_reference(text: str, where: str = CATALOGUE) -> Reference:
    """Read ``where:name(arguments)``; without a ``where:``, that of the second argument is meant.

    >>> parse_reference("systolic(accumulator=20)")
    Reference(where='hw_models', name='systolic', positional=(), named={'accumulator': 20}, called=True)
    """
    match = _REFERENCE.match(text.strip())
    if match is None:
        raise BadInput(
            f"{text!r} names nothing; write module:name, my_file.py:name, or either with literal arguments: "
            "hw_models:systolic(accumulator=20)"
        )
    where = match["where"] or where
    try:
        tree = ast.parse(match["call"].strip(), mode="eval").body
        if isinstance(tree, ast.Name):
            return Reference(where, tree.id)
        if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
            raise ValueError
        positional = tuple(ast.literal_eval(argument) for argument in tree.args)
        keys = [keyword.arg for keyword in tree.keywords]
        if None in keys or len(set(keys)) != len(keys):
            raise ValueError
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in tree.keywords}
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        raise BadInput(
            f"the arguments in {text!r} must be literals (numbers, 'strings', True, None, tuples, lists, dicts), "
            "as in hw_models:systolic(accumulator=20)"
        ) from None
    return Reference(where, tree.func.id, positional, named, called=True)


def open_module(where: str) -> ModuleType:
    """Import a module by name, or a Python file by path; BadInput says why it cannot be."""
    if where.endswith(".py"):
        path = Path(where)
        if not path.is_file():
            raise BadInput(f"there is no file {where}")
        name, folder = f"fixqnn_user_{path.stem}", path.resolve().parent
    else:
        name, folder = where, Path.cwd()
    with _importable(folder):
        try:
            if not where.endswith(".py"):
                return importlib.import_module(name)
            spec = importlib.util.spec_from_file_location(name, where)
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module  # dataclasses in the file look their own module up here
            spec.loader.exec_module(module)
            return module
        except FixqnnError:
            raise
        except Exception as problem:  # the file is the user's: whatever it raises is the answer
            raise BadInput(f"{where} cannot be imported: {_story(problem)}") from problem


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Let files of `folder` import their neighbours, as running a script there would."""
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        if str(folder) in sys.path:
            sys.path.remove(str(folder))


def names_in(module: ModuleType) -> list[str]:
    """Names that can be meant: the catalogue's, or the public functions, classes and accelerators of a module."""
    catalogue = getattr(module, "CATALOG", None)
    if isinstance(catalogue, Mapping):
        return sorted(catalogue)
    return [
        name
        for name, value in vars(module).items()
        if not name.startswith("_")
        and (
            isinstance(value, Accelerator) or (callable(value) and getattr(value, "__module__", "") == module.__name__)
        )
    ]


def find(module: ModuleType, reference: Reference, what: str) -> Any:
    """Take the named thing from its module; BadInput lists those there are."""
    catalogue = getattr(module, "CATALOG", None)
    if isinstance(catalogue, Mapping) and reference.name in catalogue:
        return catalogue[reference.name]
    found = getattr(module, reference.name, None)
    if found is None or isinstance(found, ModuleType):
        names = names_in(module)
        close = get_close_matches(reference.name, names, n=1)
        hint = f" (did you mean {close[0]!r}?)" if close else ""
        raise BadInput(
            f"{reference.where} has no {what} {reference.name!r}{hint}; it has: {', '.join(names) or 'none'}"
        )
    return found


def check_arguments(reference: Reference, function: Callable[..., Any], whole: bool = True) -> None:
    """Refuse arguments that a function does not take, or lacks if they are the `whole` (BadInput shows its signature)."""
    signature = inspect.signature(function)
    try:
        (signature.bind if whole else signature.bind_partial)(*reference.positional, **reference.named)
    except TypeError as problem:
        plain = signature.replace(
            parameters=[p.replace(annotation=p.empty) for p in signature.parameters.values()],
            return_annotation=signature.empty,
        )
        raise BadInput(
            f"{reference.where}:{reference.name} does not take these arguments: {problem}; it is {reference.name}{plain}"
        ) from None


def call(reference: Reference, function: Callable[..., Any]) -> Any:
    """Call a function with the arguments of a reference; BadInput shows its signature when they do not fit."""
    check_arguments(reference, function)
    folder = Path(reference.where).resolve().parent if reference.where.endswith(".py") else Path.cwd()
    with _importable(folder):
        try:
            return function(*reference.positional, **reference.named)
        except FixqnnError:
            raise
        except Exception as problem:
            raise BadInput(f"{reference.where}:{reference.name} failed: {_story(problem)}") from problem


def _story(problem: Exception) -> str:
    """What happened in the user's own code, and on which line."""
    frames = traceback.extract_tb(problem.__traceback__)
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(problem).__name__}: {problem}{place}"


def resolve(text: str) -> Accelerator:
    """Make the accelerator that a text names.

    Parameters
    ----------
    text : str
        ``systolic``, ``hw_models:systolic(accumulator=20)``, ``package.module:name`` or ``my_file.py:my_array``.

    Raises
    ------
    BadInput
        For a name that is not there, with those that are, or for arguments that are no literals or do not fit.
    """
    reference = parse_reference(text)
    found = find(open_module(reference.where), reference, "machine")
    made = call(reference, found) if callable(found) else found
    if not isinstance(made, Accelerator):
        raise BadInput(f"{text!r} gives an object of type {type(made).__name__}, not an Accelerator")
    return made


def catalogue() -> dict[str, Callable[..., Accelerator]]:
    """Machines that come ready made, by name."""
    return dict(open_module(CATALOGUE).CATALOG)
