"""Many formats at once: for which p and s an activation is universal, as text, as rows and as a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from fixqnn.errors import BadFile, BadInput
from fixqnn.universal.decide import check_inputs, decide_setting
from fixqnn.universal.grid import Setting, integer
from fixqnn.universal.table import resolve_table
from fixqnn.universal.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["FormatMap", "map_formats"]

LETTERS = {
    "R": "every function can be computed",
    "k": "not: the table is constant",
    "c": "not: the last layer's sums miss a code",
    "x": "not: the first layer cannot tell two inputs apart",
    "?": "undecided",
}
# M. Okabe and K. Ito, "Color universal design" (2008), lightened so that the letters can be read.
COLOURS = {"R": "#8FD1B5", "k": "#D9D9D9", "c": "#F4B183", "x": "#9CC9EA", "?": "#FFFFFF"}
MOST_LETTERS = 40  # columns in which letters can be read


@dataclass(frozen=True, repr=False)
class FormatMap:
    """The verdicts of many formats.

    Attributes
    ----------
    activation, weights, bias, rounding, inputs
        What was asked.
    p, s : tuple of int
        The formats: every p with every s.
    verdicts : mapping of (p, s) to Verdict
        Their verdicts; ``found[3, 4]`` is one of them.
    """

    activation: str
    weights: str
    bias: str
    rounding: str
    inputs: int
    p: tuple[int, ...]
    s: tuple[int, ...]
    verdicts: Mapping[tuple[int, int], Verdict]

    def __getitem__(self, format: tuple[int, int]) -> Verdict:
        if format not in self.verdicts:
            raise BadInput(f"the map has no format (p, s) = {format}; p: {self.p}, s: {self.s}")
        return self.verdicts[format]

    def letters(self) -> list[str]:
        """One text per p, one letter per s: R universal; not: k constant, c covering, x distinguishability; ? open."""
        return ["".join(self.verdicts[p, s].letter for s in self.s) for p in self.p]

    @property
    def title(self) -> str:
        """What was asked, in one line."""
        several = "s" if self.inputs > 1 else ""
        return (
            f"{self.activation}, {self.weights} weights, biases {self.bias}, ties {self.rounding}, "
            f"{self.inputs} input{several}"
        )

    def __repr__(self) -> str:
        return f"<FormatMap {self.title}: {len(self.verdicts)} formats>"

    def __str__(self) -> str:
        width = max(len(str(s)) for s in self.s) + 1
        head = "p \\ s" + "".join(f"{s:>{width}}" for s in self.s)
        rows = [
            f"{p:>5}" + "".join(f"{letter:>{width}}" for letter in row)
            for p, row in zip(self.p, self.letters(), strict=True)
        ]
        seen = {letter for row in self.letters() for letter in row}
        legend = [f"{letter}: {meaning}" for letter, meaning in LETTERS.items() if letter in seen]
        return "\n".join([self.title, head, *rows, *legend])

    def rows(self) -> list[dict[str, Any]]:
        """One row of plain facts per format: what a data frame takes."""
        return [
            {
                "p": p,
                "s": s,
                "letter": verdict.letter,
                "universal": verdict.universal,
                "reason": verdict.reason,
                "g": verdict.g,
                "gamma": verdict.gamma,
                "omega": verdict.omega,
            }
            for (p, s), verdict in self.verdicts.items()
        ]

    def figure(self) -> Figure:
        """Draw the map by matplotlib (extra ``plot``): one field per format, a colour and a letter per verdict.

        Raises
        ------
        BadInput
            Where matplotlib is not installed.
        """
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.colors import ListedColormap
            from matplotlib.figure import Figure
            from matplotlib.patches import Patch
        except ImportError:
            raise BadInput(
                "figures are drawn by matplotlib, which is not installed: pip install 'fixqnn[plot]'"
            ) from None
        order = list(LETTERS)
        letters = self.letters()
        figure = Figure(figsize=(2.5 + 0.26 * len(self.s), 1.9 + 0.3 * len(self.p)), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots()
        axes.imshow(
            [[order.index(letter) for letter in row] for row in letters],
            cmap=ListedColormap([COLOURS[letter] for letter in order]), vmin=-0.5, vmax=len(order) - 0.5, aspect="auto",
        )  # fmt: skip
        if len(self.s) <= MOST_LETTERS:
            for i, row in enumerate(letters):
                for j, letter in enumerate(row):
                    axes.text(j, i, letter, ha="center", va="center", fontsize=7)
        every = max(1, len(self.s) // 32)
        axes.set_xticks(range(0, len(self.s), every), [str(s) for s in self.s[::every]], fontsize=7)
        axes.set_yticks(range(len(self.p)), [str(p) for p in self.p], fontsize=7)
        axes.set_xlabel("s (values are k/s)")
        axes.set_ylabel("p (|k| ≤ 2ᵖ − 1)")
        axes.set_title(self.title, fontsize=9, loc="left")
        seen = [letter for letter in order if any(letter in row for row in letters)]
        handles = [
            Patch(facecolor=COLOURS[letter], edgecolor="grey", label=f"{letter}: {LETTERS[letter]}") for letter in seen
        ]
        figure.legend(handles=handles, loc="outside lower left", fontsize=7, frameon=False)
        return figure

    def save(self, path: str | Path) -> Path:
        """Write the picture; the ending of `path` (.png, .svg, .pdf) says how.

        Raises
        ------
        BadInput
            For another ending.
        BadFile
            Where the file cannot be written.
        """
        path = Path(path)
        figure = self.figure()
        kinds = figure.canvas.get_supported_filetypes()
        if path.suffix[1:].lower() not in kinds:
            raise BadInput(f"{path} must end in one of {', '.join('.' + kind for kind in sorted(kinds))}")
        try:
            figure.savefig(path, dpi=160)
        except OSError as problem:
            raise BadFile(f"cannot write {path}: {problem.strerror or problem}") from None
        return path


def map_formats(
    activation: str | Callable[..., Any],
    p: int | Iterable[int] = range(1, 7),
    s: int | Iterable[int] = range(1, 33),
    weights: str = "full",
    bias: str = "values",
    rounding: str = "half_up",
    inputs: int = 1,
    progress: Callable[[int, int | None], None] = lambda done, everything: None,
    **parameters: Any,
) -> FormatMap:
    r"""Decide every format of a grid.

    Parameters
    ----------
    activation : str or callable
        As for `decide`; a list of codes belongs to one p and is refused.
    p, s : int or iterable of int
        The formats ``symmetric(p, s)``: every p with every s.
    weights, bias, rounding, inputs, **parameters
        As for `decide`.
    progress : callable, optional
        Told ``(done, all)``.

    Returns
    -------
    FormatMap
        Prints as a table of letters; ``figure()`` and ``save(path)`` draw it.

    Raises
    ------
    BadInput
        As `decide`; and for an empty grid.

    Examples
    --------
    >>> print(map_formats("sigmoid", p=[1, 2, 3], s=range(1, 5), weights="binary", inputs=2))
    sigmoid, binary weights, biases values, ties half_up, 2 inputs
    p \ s 1 2 3 4
        1 R k k k
        2 x R x R
        3 x x x x
    R: every function can be computed
    k: not: the table is constant
    x: not: the first layer cannot tell two inputs apart
    """
    if not isinstance(activation, str) and not callable(activation):
        raise BadInput("a map needs an activation for every format: a name or a function, not a table of codes")
    ps, ss = _axis(p, "p"), _axis(s, "s")
    inputs = check_inputs(inputs)
    verdicts, name = {}, ""
    for one_p in ps:
        for one_s in ss:
            setting = Setting(one_p, one_s, weights, bias, rounding)
            name, table = resolve_table(activation, setting, parameters)
            verdicts[one_p, one_s] = decide_setting(name, setting, inputs, table)
            progress(len(verdicts), len(ps) * len(ss))
    setting = next(iter(verdicts.values())).setting
    return FormatMap(
        name, weights, str(setting.bias), str(setting.rounding), inputs, ps, ss, MappingProxyType(verdicts)
    )


def _axis(values: Any, name: str) -> tuple[int, ...]:
    several = isinstance(values, Iterable) and not isinstance(values, str)
    found = tuple(dict.fromkeys(integer(value, name) for value in (values if several else (values,))))
    if not found:
        raise BadInput(f"a map needs at least one {name}")
    return found
