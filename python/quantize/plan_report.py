"""The report of a plan, ``quantize-report.html``: the page of ``--report`` with what the tasks told.

It has no times, no paths and nothing of the executor, so that its bytes follow from the plan and the inputs.
Inputs are named, but have no sums, which nobody computes; and no errors are drawn, for which all tensors
would be read again.
"""

from __future__ import annotations

import json
import math
import os
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from .planning import Plan
    from .stages import Sums

REPORT = "quantize-report.html"
_MARK = "@DATA@"
# What a task tells of its file, and of all else.
_OF_FILES = ("signal", "error", "tensors")
_OF_REST = ("totals",)


def told_by(said: str, rest: bool) -> dict[str, Any]:
    """What the tool said of a part, as far as the report needs it."""
    found = json.loads(said)
    return {name: found[name] for name in (_OF_REST if rest else _OF_FILES)}


def page(plan: Plan, sums: Sums, told: Sequence[dict[str, Any]]) -> str:
    """The page. `told` has what the task for the rest told, and then those for the files, in their order."""
    rest, *parts = told
    files = [
        {"path": os.path.basename(path), "role": "input", "bytes": size} for path, size, _ in plan.inputs
    ]
    files += [
        {"path": name, "role": "output", "bytes": size, "sha256": sum_}
        for name, (size, sum_) in sorted(sums.items())
    ]
    data = {
        "version": plan.version,
        "arguments": ["quantize", plan.command, "IN", "OUT", *plan.arguments],
        "files": files,
        "bytes_before": sum(size for _, size, _ in plan.inputs),
        "bytes_after": sum(size for size, _ in sums.values()),
        "totals": {**rest["totals"], "sqnr_db": _sqnr(parts)},
        "tensors": [tensor for part in parts for tensor in part["tensors"]],
        "histograms": [],
    }
    before, after = resources.files(__package__).joinpath("report.html").read_text("ascii").split(_MARK)
    return f"{before}{_harmless(json.dumps(data))}{after}"


def _sqnr(parts: Sequence[dict[str, Any]]) -> float | None:
    signal, error = (math.fsum(part[name] for part in parts) for name in ("signal", "error"))
    return 10 * math.log10(signal / error) if signal > 0 and error > 0 else None


def _harmless(text: str) -> str:
    """JSON in which no character of a name is markup."""
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
