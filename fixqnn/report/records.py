"""Hardware records as the shortest call that makes them: fields at their default are left out."""

from __future__ import annotations

import dataclasses
import re
import sys
from collections.abc import Mapping
from typing import Any

from fixqnn.accelerator import Accelerator
from fixqnn.datapath import Register

_REGISTER = re.compile(r"Register\(([^()]*)\)")


def short(record: Any) -> str:
    """Write a record without its defaults.

    >>> short(Register(12, "wrap", drop=0))
    "Register(12, overflow='wrap')"
    """
    if not dataclasses.is_dataclass(record) or isinstance(record, type):
        if isinstance(record, tuple):
            inside = ", ".join(short(part) for part in record)
            return f"({inside},)" if len(record) == 1 else f"({inside})"
        return getattr(record, "__name__", None) or repr(record)
    parts = []
    for place, field in enumerate(dataclasses.fields(record)):
        value = getattr(record, field.name)
        if field.default is dataclasses.MISSING:
            parts.append(short(value) if place == len(parts) else f"{field.name}={short(value)}")
        elif value != field.default:
            first = place == 0 and field.name in ("scaler", "rounding", "bits")
            parts.append(short(value) if first else f"{field.name}={short(value)}")
    return f"{type(record).__name__}({', '.join(parts)})"


def short_text(text: str) -> str:
    """Shorten a register that was written in full, as events keep it; any other text stays.

    >>> short_text(repr(Register(12)))
    'Register(12)'
    """

    def shorten(match: re.Match[str]) -> str:
        fields = dict(part.split("=", 1) for part in match[1].split(", ") if "=" in part)
        defaults = {f.name: repr(f.default) for f in dataclasses.fields(Register)}
        kept = [v if k == "bits" else f"{k}={v}" for k, v in fields.items() if v != defaults.get(k)]
        return f"Register({', '.join(kept)})" if fields else match[0]

    return _REGISTER.sub(shorten, text)


def datapath_rows(accelerator: Accelerator) -> list[dict[str, Any]]:
    """One row per different datapath, with the operations that share it."""
    sharing: dict[str, list[str]] = {}
    for name, record in accelerator.datapaths.items():
        sharing.setdefault(short(record), []).append(name)
    return [{"operations": ", ".join(names), "datapath": text} for text, names in sharing.items()]


def catalogue_rows(machines: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One row per ready-made machine: its name, what it is, and where its arithmetic comes from."""
    rows = []
    for name, factory in machines.items():
        made = factory()
        story = getattr(sys.modules.get(factory.__module__), "__doc__", None) or factory.__doc__ or ""
        rows.append({"name": name, "summary": story.strip().partition("\n")[0], "source": made.source})
    return rows
