"""Constraints on rows, as texts such as ``accuracy >= float - 0.01``: read by a small grammar, never evaluated as code.

Arithmetic is exact (rational), so that a row that meets a limit to the last sample meets it, whatever 0.97 − 0.01 is in
binary. The same tree is computed on intervals, which tells of a half-measured row whether it can still meet the limit.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from fractions import Fraction
from typing import Any

from fixqnn.errors import BadInput
from fixqnn.sweeps.rows import NUMBERS

Number = Fraction | float  # floats are infinities, and nothing else
Interval = tuple[Number, Number]
INFINITE = math.inf
ANYTHING: Interval = (-INFINITE, INFINITE)

COLUMNS = NUMBERS
LONGEST = 400  # characters of a text
NEED_LABELS = ("accuracy", "accuracy_low", "accuracy_high", "right", "total", "float_accuracy", "p")
SHORT = {"float": "float_accuracy"}  # what is easier to say
RELATIONS = {ast.LtE: "<=", ast.GtE: ">=", ast.Lt: "<", ast.Gt: ">", ast.Eq: "=="}
FORM = (
    "write one comparison (<=, >=, <, >, ==) of sums, differences, products and quotients of numbers and columns, "
    "such as 'accuracy >= float - 0.01'"
)


@dataclass(frozen=True)
class Constraint:
    """A limit that rows are to keep.

    Attributes
    ----------
    text : str
        As the user wrote it, or the name of a function.
    relation : str
        ``"<="``, ``"<"`` or ``"=="``, between `left` and `right`; ``""`` for a function.
    left, right : ast.expr
        Both sides; of ``>=`` and ``>`` they have changed places.
    function : callable, optional
        ``function(row) -> float``, at most 0 where the row is fine; instead of a text.
    """

    text: str
    relation: str = ""
    left: ast.expr | None = field(default=None, compare=False, repr=False)
    right: ast.expr | None = field(default=None, compare=False, repr=False)
    function: Callable[[Mapping[str, Any]], float] | None = field(default=None, repr=False)

    @property
    def columns(self) -> frozenset[str]:
        """Names of the columns that it reads; none are known of a function."""
        trees = [side for side in (self.left, self.right) if side is not None]
        names = {node.id for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Name)}
        return frozenset(SHORT.get(name, name) for name in names)

    def violation(self, row: Mapping[str, Any]) -> float:
        """By how much a row breaks the limit: at most 0 where it keeps it, infinite where a number is missing.

        >>> constraint("accuracy >= float - 0.01").violation({"accuracy": 0.96, "float_accuracy": 0.97})
        0.0
        >>> constraint("events == 0").violation({"events": 3})
        3.0
        """
        if self.function is not None:
            return self._asked(row)
        points = {name: (number, number) for name in self.columns if (number := exact(row, name)) is not None}
        if len(points) < len(self.columns):
            return INFINITE
        low, high = self._excess(points)
        if math.isnan(low) or math.isnan(high):
            return INFINITE
        worst = max(abs(low), abs(high)) if self.relation == "==" else high
        if worst > 0 or (self.relation == "<" and worst == 0):
            return max(_real(worst), math.ulp(0.0))  # a limit missed by less than any float is missed
        return _real(worst)

    def hopeless(self, bounds: Mapping[str, Interval]) -> bool:
        """Whether no row with numbers inside these bounds keeps the limit; columns without bounds may be anything.

        >>> constraint("accuracy >= 0.9").hopeless({"accuracy": (0.1, 0.5)})
        True
        >>> constraint("events <= 5").hopeless({"events": (3, math.inf)})
        False
        """
        if self.function is not None:
            return False
        low, high = self._excess({name: bounds.get(name, ANYTHING) for name in self.columns})
        if math.isnan(low) or math.isnan(high):
            return False
        return low > 0 or (self.relation == "<" and low == 0) or (self.relation == "==" and high < 0)

    def _excess(self, bounds: Mapping[str, Interval]) -> Interval:
        """Left side minus right side."""
        return _subtract(_compute(self.left, bounds), _compute(self.right, bounds))

    def _asked(self, row: Mapping[str, Any]) -> float:
        try:
            found = float(self.function(row))
        except (TypeError, ValueError) as problem:
            raise BadInput(
                f"constraint {self.text} must give a number, at most 0 where a row is fine: {problem}"
            ) from None
        return INFINITE if math.isnan(found) else found


def constraint(given: str | Callable[[Mapping[str, Any]], float] | Constraint) -> Constraint:
    """Read a constraint.

    Parameters
    ----------
    given : str or callable
        One comparison of sums, differences, products and quotients of numbers and columns of a row;
        ``float`` stands for ``float_accuracy``. Or a function of a row that gives a number, at most 0 where it is fine.

    Raises
    ------
    BadInput
        For anything else; nothing in the text is evaluated as code.

    Examples
    --------
    >>> constraint("accumulator_bits <= 24")
    Constraint(text='accumulator_bits <= 24', relation='<=')
    >>> constraint("accuracy >= flaot - 0.01")
    Traceback (most recent call last):
        ...
    fixqnn.errors.BadInput: constraint 'accuracy >= flaot - 0.01': rows have no column 'flaot'; did you mean 'float'?
    """
    if isinstance(given, Constraint):
        return given
    if callable(given):
        return Constraint(getattr(given, "__name__", type(given).__name__), function=given)
    if not isinstance(given, str) or len(given) > LONGEST:
        raise BadInput(f"a constraint is a short text or a function of a row, not {given!r}; {FORM}")
    try:
        tree = ast.parse(given.strip(), mode="eval").body
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        raise BadInput(f"constraint {given!r} cannot be read; {FORM}") from None
    if not isinstance(tree, ast.Compare) or len(tree.ops) != 1 or type(tree.ops[0]) not in RELATIONS:
        raise BadInput(f"constraint {given!r} is not one comparison; {FORM}")
    relation, left, right = RELATIONS[type(tree.ops[0])], tree.left, tree.comparators[0]
    if relation in (">=", ">"):
        relation, left, right = relation.replace(">", "<"), right, left
    for side in (left, right):
        _check(side, given)
    found = Constraint(given, relation, left, right)
    if not found.columns:
        raise BadInput(f"constraint {given!r} names no column of a row, which has: {', '.join(COLUMNS)}")
    return found


def constraints(given: Iterable[Any] | str | Callable[..., Any] | None) -> tuple[Constraint, ...]:
    """Read one constraint or several."""
    if given is None:
        return ()
    if isinstance(given, str | Constraint) or callable(given):
        given = (given,)
    try:
        return tuple(constraint(one) for one in given)
    except TypeError:
        raise BadInput(f"constraints are texts or functions of a row, not {given!r}; {FORM}") from None


def _check(tree: ast.expr, text: str) -> None:
    match tree:
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            _check(left, text)
            _check(right, text)
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=operand):
            _check(operand, text)
        case ast.Constant(value=bool() | complex()):
            raise BadInput(f"constraint {text!r}: {tree.value!r} is not a number to compare; {FORM}")
        case ast.Constant(value=int() | float()) if math.isfinite(tree.value):
            pass
        case ast.Name(id=name):
            if name not in COLUMNS and name not in SHORT:
                close = get_close_matches(name, [*SHORT, *COLUMNS], 1)
                hint = f"did you mean {close[0]!r}?" if close else f"there are {', '.join(COLUMNS)}"
                raise BadInput(f"constraint {text!r}: rows have no column {name!r}; {hint}")
        case _:
            raise BadInput(f"constraint {text!r}: {ast.unparse(tree)!r} cannot stand in one; {FORM}")


def exact(row: Mapping[str, Any], name: str) -> Number | None:
    """Give a number of a row as a fraction; None where there is none.

    Shares of samples are taken as such: 0.97 as 97 of 100, where the row says of how many.
    """
    value = row.get(name)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, float) and math.isinf(value):
        return value
    if name == "accuracy" and row.get("right") is not None and row.get("total"):
        return Fraction(int(row["right"]), int(row["total"]))
    if name in ("accuracy", "float_accuracy"):  # k of n samples, with any n that a test set has
        return Fraction(value).limit_denominator(1_000_000)
    return Fraction(value)


def _real(number: Number) -> float:
    try:
        return float(number)
    except OverflowError:
        return INFINITE if number > 0 else -INFINITE


def _compute(tree: ast.expr, bounds: Mapping[str, Interval]) -> Interval:
    match tree:
        case ast.Constant(value=value):
            number = Fraction(repr(value)) if isinstance(value, float) else Fraction(value)
            return number, number
        case ast.Name(id=name):
            return bounds[SHORT.get(name, name)]
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            low, high = _compute(operand, bounds)
            return -high, -low
        case ast.UnaryOp(operand=operand):
            return _compute(operand, bounds)
        case ast.BinOp(left=left, op=op, right=right):
            return _OPERATIONS[type(op)](_compute(left, bounds), _compute(right, bounds))
    raise AssertionError(ast.dump(tree))


def _add(a: Interval, b: Interval) -> Interval:
    return a[0] + b[0], a[1] + b[1]


def _subtract(a: Interval, b: Interval) -> Interval:
    return a[0] - b[1], a[1] - b[0]


def _multiply(a: Interval, b: Interval) -> Interval:
    ends = [Fraction(0) if x == 0 or y == 0 else x * y for x in a for y in b]  # 0 · ∞ is the limit of 0 · x
    return min(ends), max(ends)


def _divide(a: Interval, b: Interval) -> Interval:
    if b[0] <= 0 <= b[1]:
        return ANYTHING if b != (0, 0) else (math.nan, math.nan)
    return _multiply(a, tuple(sorted(Fraction(0) if math.isinf(x) else 1 / x for x in b)))


_OPERATIONS = {ast.Add: _add, ast.Sub: _subtract, ast.Mult: _multiply, ast.Div: _divide}
