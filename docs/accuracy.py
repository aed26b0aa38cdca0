"""The table of accuracy.md, measured.

    python accuracy.py            prints it
    python accuracy.py --check    compares it with accuracy.md, to 0.02 dB
    python accuracy.py --write    puts it into accuracy.md

Needs the package. Takes some seconds.
"""

from __future__ import annotations

import math
import re
import sys
from pathlib import Path

import numpy as np
import quantize

PAGE = Path(__file__).parent / "accuracy.md"
TABLE = re.compile(r"(?<=<!-- table -->\n)(?:\|.*\n)*")

ROWS, COLUMNS = 1024, 4096
GROUP_SIZES = (16, 32, 64, 128, 256)
SCHEMES = (
    ("int4", "absmax7", "`int4`, absmax7"),
    ("int4", "absmax", "`int4`, absmax"),
    ("uint4", "minmax", "`uint4`, minmax"),
    ("uint4_offset", "minmax", "`uint4_offset`, minmax"),
)
EULER = 0.5772156649015329


def samples() -> dict[str, np.ndarray]:
    """Independent values of variance 1: normal, and Student's t with 5 degrees of freedom (heavy tails)."""
    rng = np.random.default_rng(2026)
    normal = rng.standard_normal((ROWS, COLUMNS), dtype=np.float32)
    student = rng.standard_t(5, (ROWS, COLUMNS)) / math.sqrt(5 / 3)
    return {"Gaussian": normal, "t5": student.astype(np.float32)}


def shannon_bound(source: str, bits: float) -> float:
    """No code of that many bits a value, however clever, has a higher SQNR: dB, for variance 1.

    Shannon's lower bound: the error is at least 2^(2 (h - bits)) / (2 pi e), h being the source's entropy.
    """
    if source == "Gaussian":
        entropy = 0.5 * math.log2(2 * math.pi * math.e)
    else:
        # Of Student's t, in nats: (v+1)/2 (psi((v+1)/2) - psi(v/2)) + ln(sqrt(v) B(v/2, 1/2)).
        # Dividing by the standard deviation sqrt(5/3) takes its logarithm away.
        psi_3 = 1 + 1 / 2 - EULER
        psi_2_5 = -EULER - 2 * math.log(2) + 2 + 2 / 3
        beta = math.gamma(2.5) * math.gamma(0.5) / math.gamma(3)
        nats = 3 * (psi_3 - psi_2_5) + math.log(math.sqrt(5) * beta)
        entropy = (nats - 0.5 * math.log(5 / 3)) / math.log(2)
    return 10 * math.log10(2 * math.pi * math.e) + 20 * math.log10(2) * (bits - entropy)


def measure() -> list[list[str]]:
    data = samples()
    rows = []
    for scheme, method, label in SCHEMES:
        for group_size in GROUP_SIZES:
            cells = []
            for source, x in data.items():
                q = quantize.quantize_array(x, scheme, group_size=group_size, method=method)
                assert q.stats is not None
                bound = shannon_bound(source, q.bits_per_value)
                cells += [f"{q.stats.sqnr_db:.2f}", f"{bound:.2f}"]
            rows.append([f"{label} g{group_size}", f"{q.bits_per_value:.3f}", *cells])
    return rows


def table(rows: list[list[str]]) -> str:
    head = ["scheme", "bits a value", "Gaussian", "bound", "t5", "bound"]
    lines = [head, ["---", *["---:"] * 5], *rows]
    return "".join("| " + " | ".join(cells) + " |\n" for cells in lines)


def main() -> int:
    if sys.argv[1:] not in ([], ["--check"], ["--write"]):
        sys.exit(__doc__)
    rows = measure()
    page = PAGE.read_text("utf-8")
    if sys.argv[1:] == ["--write"]:
        PAGE.write_text(TABLE.sub(lambda _: table(rows), page), "utf-8")
        return 0
    if not sys.argv[1:]:
        print(table(rows), end="")
        return 0
    found = TABLE.search(page)
    assert found is not None
    published = [
        [cell.strip() for cell in line.strip("|\n").split("|")] for line in found[0].splitlines()[2:]
    ]
    same = len(published) == len(rows) and all(
        a[0] == b[0] and all(abs(float(x) - float(y)) <= 0.02 for x, y in zip(a[1:], b[1:], strict=True))
        for a, b in zip(published, rows, strict=True)
    )
    print(
        "accuracy.md: "
        + ("the table is right" if same else "the table is not what is measured:\n" + table(rows))
    )
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
