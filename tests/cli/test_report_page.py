"""--report: a page with the numbers of --json, in which no name is markup."""

import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Array = Any
SCRIPT = "<script>alert(1)</script>"
ENDS = '</script><img src=x onerror="document.title=1">&lt;!--'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(*shape: int, seed: int = 7) -> Array:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@pytest.fixture
def model() -> dict[str, Array]:
    arrays: dict[str, Array] = {
        SCRIPT: weights(16, 256),
        ENDS.replace("/", ""): weights(16, 64, seed=8).astype(np.float16),
        "wide": weights(8, 512, seed=9).astype(np.float64) * 7,
        "column": np.asfortranarray(weights(64, 64, seed=10)),
        "exact": np.ones((8, 64), np.float32),
        "ids": np.arange(7),
    }
    np.savez("in.npz", **arrays)
    return arrays


class Page(HTMLParser):
    """The elements of a page, and the text of its script of data."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.data = ""
        self.inside = False
        self.feed(Path(path).read_text("ascii"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = ("id", "data") in attrs

    def handle_endtag(self, tag: str) -> None:
        self.inside = False

    def handle_data(self, data: str) -> None:
        self.data += data if self.inside else ""


def report(path: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Page(path).data)
    return found


def histogram(before: Array, after: Array) -> tuple[float, list[int]]:
    errors = (after.astype(np.float64) - before.astype(np.float64)).ravel()
    reach = float(np.abs(errors).max())
    return reach, np.histogram(errors, 41, (-reach, reach))[0].tolist()


CALLS = [
    ("encode", "in.npz", "q.npz", "--scheme", "nf4"),
    ("encode", "in.npz", "q.gguf", "--include", "column"),
    ("convert", "own.safetensors", "c.gguf", "--requantize"),
    ("compare", "in.npz", "own.npz"),
    ("compare", "own.npz", "own.npz"),
]


@pytest.fixture
def files(run: Run, model: dict[str, Array]) -> None:
    run("encode", "in.npz", "own.npz", "-q")
    floats = {name: x for name, x in model.items() if x.dtype.kind == "f"}
    np.savez("floats.npz", **floats)
    run("encode", "floats.npz", "own.safetensors", "-q", "--scheme", "nf4")


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("arguments", CALLS, ids=" ".join)
def test_numbers_are_those_of_json_and_numpy(run: Run, arguments: tuple[str, ...]) -> None:
    force = () if arguments[0] == "compare" else ("--force",)
    run(*arguments, "--report", "r.html", "-q")
    data = report("r.html")
    whole = json.loads(
        run(*arguments, *force, "--stats" if arguments[0] == "encode" else "-q", "--json").stdout
    )
    assert data["tensors"] == whole.pop("tensors")
    assert data["totals"] == whole
    assert data["arguments"] == ["quantize", *arguments, "--report", "r.html", "-q"]
    assert [file["path"] for file in data["files"]] == list(arguments[1:3])
    for file in data["files"]:
        content = Path(file["path"]).read_bytes()
        assert (file["bytes"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    # The errors are those between both files, decoded.
    for number, path in enumerate(arguments[1:3]):
        run("decode", path, f"{number}.npz", "-q", "--dtype", "float32")
    with np.load("0.npz") as a, np.load("1.npz") as b:
        measured = {t["name"]: (t.get("stats") or t).get("sqnr_db") for t in data["tensors"]}
        finite = {name: x for name, x in measured.items() if x is not None}
        drawn = [h["name"] for h in data["histograms"]]
        assert drawn == sorted(finite, key=lambda name: finite[name])[:6]
        for h in data["histograms"]:
            name = h["name"]
            before = a[name] if name in a.files else a[a.files[0]]
            reach, counts = histogram(before, b[name])
            assert h["sqnr_db"] == finite[name]
            assert h["reach"] == pytest.approx(reach, rel=1e-6)
            assert sum(h["counts"]) == sum(counts) == before.size
            # A value on the border of two bins may be counted in either.
            assert np.abs(np.subtract(h["counts"], counts)).sum() <= before.size // 50
    assert bool(finite) == (arguments != CALLS[-1])


@pytest.mark.usefixtures("model")
def test_no_name_is_markup_and_nothing_is_loaded(run: Run) -> None:
    np.savez("plain.npz", a=weights(8, 64))
    run("encode", "plain.npz", "p.npz", "--report", "plain.html", "-q")
    os.rename("in.npz", "<b>&.npz")
    run("encode", "<b>&.npz", "q.npz", "--report", "r.html", "-q")
    assert Page("r.html").tags == Page("plain.html").tags
    names = [tensor["name"] for tensor in report("r.html")["tensors"]]
    assert SCRIPT in names
    assert "<" not in Page("r.html").data
    for tag, attributes in Page("r.html").tags:
        assert tag not in ("img", "iframe", "object", "embed", "base", "form")
        for name in ("src", "href", "action", "data"):
            assert (attributes.get(name) or "data:,") == "data:,"
    text = Path("r.html").read_text()
    assert set(re.findall(r"https?://[^\"' ]+", text)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, not an address
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|eval\(|fetch\(|@import|url\(", text)
    assert "default-src 'none'" in text


def test_sums_of_files_of_any_length(run: Run) -> None:
    for n in [*range(70), 119, 120, 127, 65535, 65536, 65537]:
        x = np.arange(n).astype(np.uint8)
        np.save("a.npy", x)
        run("compare", "a.npy", "a.npy", "--report", "r.html", "--force", "-q")
        assert (
            report("r.html")["files"][0]["sha256"] == hashlib.sha256(Path("a.npy").read_bytes()).hexdigest()
        )


@pytest.mark.usefixtures("model")
def test_a_page_is_replaced_by_force_alone(run: Run) -> None:
    Path("r.html").write_text("mine")
    for arguments in (("encode", "in.npz", "q.npz"), ("compare", "in.npz", "in.npz")):
        message = run(*arguments, "--report", "r.html", code=4).stderr
        assert "r.html: exists already; --force replaces it" in message
    assert sorted(os.listdir()) == ["in.npz", "r.html"]
    assert Path("r.html").read_text() == "mine"
    run("compare", "in.npz", "in.npz", "--report", "r.html", "--force")
    assert report("r.html")["totals"]["command"] == "compare"
    umask = os.umask(0)
    os.umask(umask)
    assert os.stat("r.html").st_mode & 0o777 == 0o666 & ~umask


@pytest.mark.usefixtures("model")
def test_a_page_is_no_other_file_of_the_command(run: Run) -> None:
    os.symlink("in.npz", "link")
    os.link("in.npz", "hard")
    before = Path("in.npz").read_bytes()
    for name in ("in.npz", "./in.npz", "link", "hard", "q.npz"):
        run("encode", "in.npz", "q.npz", "--report", name, "--force", code=4)
        assert not Path("q.npz").exists()
    assert "no regular file" in run("encode", "in.npz", "q.npz", "--report", ".", "--force", code=4).stderr
    assert "--dry-run" in run("encode", "in.npz", "q.npz", "--report", "r.html", "--dry-run", code=2).stderr
    # Where only the finished output shows that it is the same file.
    run("encode", "in.npz", "q.npz", "--report", "./q.npz", "--force", code=4)
    assert run("verify", "q.npz").returncode == 0
    assert Path("in.npz").read_bytes() == before
    assert sorted(os.listdir()) == ["hard", "in.npz", "link", "q.npz"]


@pytest.mark.usefixtures("model")
def test_a_page_that_cannot_be_written(run: Run) -> None:
    assert "nowhere/r.html" in run("compare", "in.npz", "in.npz", "--report", "nowhere/r.html", code=5).stderr
    assert os.listdir() == ["in.npz"]
    # Before the work, of which nothing would be known.
    for name in ("nowhere/r.html", "in.npz/r.html"):
        failed = run("encode", "in.npz", "q.npz", "--report", name, code=5)
        assert failed.stderr.count("\n") == 1
        assert name in failed.stderr
        assert os.listdir() == ["in.npz"]


def test_nan_that_was_replaced_has_no_error(run: Run) -> None:
    bad = weights(8, 64)
    bad[0, 0] = np.nan
    np.savez("in.npz", bad=bad, good=weights(8, 64))
    run("encode", "in.npz", "q.npz", "--nonfinite", "clip", "--report", "r.html", "-q")
    assert [h["name"] for h in report("r.html")["histograms"]] == ["good"]


def test_nothing_is_left_of_a_run_that_is_ended(tool: str) -> None:
    np.save("in.npy", weights(4000, 2048))
    arguments = [tool, "encode", "in.npy", "q.npz", "--method", "exact", "--report", "r.html", "-q"]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE) as child:
        time.sleep(0.3)
        child.send_signal(signal.SIGTERM)
    assert child.returncode == 128 + signal.SIGTERM
    assert os.listdir() == ["in.npy"]


def test_a_run_that_is_ended_while_the_page_is_written(tool: str) -> None:
    np.save("large.npy", np.zeros((20000, 4096), np.int8))
    with subprocess.Popen(
        [tool, "compare", "large.npy", "large.npy", "--report", "r.html", "--jsonl", "-q"],
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        lines = []
        for line in child.stdout:
            lines.append(json.loads(line))
            if lines[-1]["event"] == "tensor":
                child.send_signal(signal.SIGTERM)
    assert child.returncode == 128 + signal.SIGTERM
    assert lines[-1]["event"] == "error"
    assert lines[-1]["remedy"] is None
    assert os.listdir() == ["large.npy"]


# --- in a browser ---

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def browse(path: str, width: int = 1280) -> tuple[str, str]:
    """The page as the browser has it when its scripts ran, and what they said."""
    assert CHROMIUM is not None
    done = subprocess.run(
        [
            *(
                CHROMIUM,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--enable-logging=stderr",
                "--dump-dom",
            ),
            *(f"--user-data-dir={Path('browser').resolve()}", f"--window-size={width},2000"),
            f"file://{Path(path).resolve()}",
        ],
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout, "\n".join(line for line in done.stderr.splitlines() if "CONSOLE" in line)


class Table(HTMLParser):
    """The text of the cells of the table of tensors, by row; and the title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.title, self.table, self.tag = "", "", ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.table = (dict(attrs).get("id") or "") if tag == "table" else self.table
        self.tag = tag
        if self.table == "tensors" and tag == "tr":
            self.rows.append([])
        elif self.table == "tensors" and tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_data(self, data: str) -> None:
        if self.table == "tensors" and self.rows and self.rows[-1]:
            self.rows[-1][-1] += data
        if self.tag == "title" and not self.title:
            self.title = data


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, which shows whether the page works")
@pytest.mark.usefixtures("model")
def test_the_page_names_the_schemes_that_were_chosen(run: Run) -> None:
    run("encode", "in.npz", "q.npz", "--target-bits", 6, "--report", "r.html", "-q")
    tensors = [t for t in report("r.html")["tensors"] if "scheme" in t]
    chosen = dict.fromkeys(t.get("chosen", t["scheme"]) for t in tensors)
    text, said = browse("r.html")
    assert said == ""
    assert list(chosen) != ["int4"]
    assert f"<dt>scheme</dt><dd>{', '.join(chosen)}</dd>" in text


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed, which shows whether the page works")
@pytest.mark.usefixtures("model")
def test_the_page_in_a_browser(run: Run) -> None:
    run("encode", "in.npz", "q.npz", "--report", "r.html", "-q")
    text, said = browse("r.html")
    assert said == ""
    shown = Table(text)
    assert shown.title == "quantize encode: 6 tensors"
    assert [row[0] for row in shown.rows[1:]] == [t["name"] for t in report("r.html")["tensors"]]
    assert shown.rows[1][0] == SCRIPT
    assert text.count("<circle") == 4
    assert text.count('aria-label="Histogram of errors"') == 4
    # A click on a title sorts, another one turns the order; at the width of a telephone nothing is cut off.
    click = """<script>
        [...document.querySelectorAll("#tensors th button")].find(b => /SQNR/.test(b.textContent)).click();
    </script>"""
    width = """<style>html { width: 400px; }</style><script>{
        const fits = e => e.scrollWidth <= e.clientWidth + 1 || !e.clientWidth;
        const all = [...document.querySelectorAll("h1, h2, h3, dd, code")].every(fits);
        document.title = document.body.scrollWidth <= 400 && all;
    }</script>"""
    page = Path("r.html").read_text()
    values = []
    for clicks in (1, 2):
        Path("changed.html").write_text(page.replace("</body>", click * clicks + width + "</body>"))
        text, said = browse("changed.html")
        assert said == ""
        changed = Table(text)
        assert changed.title == "true"
        column = next(i for i, title in enumerate(changed.rows[0]) if title.startswith("SQNR"))
        values.append([float(row[column]) for row in changed.rows[1:] if row[column]])
        assert [row[column] for row in changed.rows[-2:]] == ["", ""]
    assert values[0] == sorted(values[0])
    assert values[1] == values[0][::-1]
