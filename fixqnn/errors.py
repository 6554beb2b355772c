"""Everything that fixqnn raises on purpose: one parent, a few children.

A message says what was wrong, where, what came, and the way out.
"""

from __future__ import annotations


class FixqnnError(Exception):
    """Parent of every error that fixqnn raises on purpose."""


class FormatError(FixqnnError, ValueError):
    """A format, register or datapath that cannot exist."""


class BadInput(FixqnnError, ValueError):
    """Values that cannot be used: a wrong shape, NaN, an empty calibration set, an unknown name."""


class BadFile(FixqnnError, ValueError):
    """A file that is not what it should be: not a model, truncated, tampered with."""


class ImportProblems(FixqnnError):
    """All unsupported operators of a foreign model, listed together."""


class DoesNotFit(FixqnnError):
    """The accelerator cannot take this graph: every offending node, and the way out."""


class TooWide(FixqnnError):
    """The fast engine cannot be trusted here: the register, the bound, and ``engine="exact"``."""


class RegisterOverflow(FixqnnError):
    """A ``forbid`` register was asked to hold more than it can: step, index, value."""
