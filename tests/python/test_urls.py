"""Plans whose checkpoints and outputs have URLs: the bytes of local ones, and what goes wrong by its URL."""

from __future__ import annotations

import errno
import os
import re
import resource
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import quantize
from checkpoints import OPTIONS, check, checkpoint, make
from quantize import mirror, plan_report, remote_stage, running, stages

fsspec = pytest.importorskip("fsspec", reason="fsspec is not installed")
MemoryFileSystem = pytest.importorskip("fsspec.implementations.memory").MemoryFileSystem


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    return make(tmp_path_factory.mktemp("made"), 9)


@pytest.fixture(autouse=True)
def empty_memory() -> None:
    """The store of memory:// is one for the whole process."""
    memory = fsspec.filesystem("memory")
    memory.store.clear()
    memory.pseudo_dirs[:] = [""]


def base(kind: str, tmp_path: Path) -> str:
    return "memory://here" if kind == "memory" else f"file://{tmp_path}/store"


def upload(folder: Path, url: str) -> None:
    fs, path = fsspec.core.url_to_fs(url)
    fs.makedirs(path)
    for file in folder.iterdir():
        fs.put_file(str(file), f"{path}/{file.name}")


def download(url: str, folder: Path) -> Path:
    fs, path = fsspec.core.url_to_fs(url)
    folder.mkdir()
    assert not [entry["name"] for entry in fs.ls(path, detail=True) if entry["type"] != "file"]
    for entry in fs.ls(path, detail=True):
        (folder / entry["name"].rsplit("/", 1)[-1]).write_bytes(fs.cat_file(entry["name"]))
    return folder


@pytest.mark.parametrize("kind", ["memory", "file"])
@pytest.mark.parametrize("where", ["in", "out", "both"])
@pytest.mark.parametrize("index", [False, True])
def test_bytes_are_those_of_local_paths(
    made: Any, tmp_path: Path, kind: str, where: str, index: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "_HEAD", 64)  # shorter than a header: the rest is asked for, too
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr("tempfile.tempdir", None)
    url = base(kind, tmp_path)
    source, target = str(made[0]), str(tmp_path / "out")
    if where != "out":
        upload(made[0], source := f"{url}/in")
    if where != "in":
        target = f"{url}/out"
    plan = quantize.plan(source + "/model.safetensors.index.json" * index, target + "/" * index, **OPTIONS)
    again = quantize.Plan.from_json(plan.to_json())
    given = quantize.run(again, 3)
    if where != "in":
        download(target, tmp_path / "out")
    check(tmp_path / "out", made[1], given)
    assert quantize.run(plan, resume=True) == given  # all is done
    assert not list((tmp_path / "tmp").iterdir())
    with pytest.raises(quantize.PlanError, match=f"{target} exists already"):
        quantize.run(plan)


def test_only_what_is_needed_is_fetched(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Headers for the plan and once for the run, and for a task the tensors of its file."""
    monkeypatch.setattr(mirror, "_HEAD", 64)  # shorter than a header: the rest is asked for, too
    upload(made[0], "memory://in")
    read: list[tuple[str, int]] = []
    fetch = mirror.Folder._fetch

    def note(folder: Any, ranges: Any, where: str) -> None:
        read.extend((name, end - begin) for name, begin, end in ranges)
        fetch(folder, ranges, where)

    monkeypatch.setattr(mirror.Folder, "_fetch", note)
    plan = quantize.plan("memory://in", tmp_path / "out", **OPTIONS)
    headers = {}
    for file in made[0].glob("*.safetensors"):
        headers[file.name] = 8 + int.from_bytes(file.read_bytes()[:8], "little")
    heads = sum(headers.values())
    texts = sum(file.stat().st_size for file in made[0].glob("*.json"))
    assert sum(size for _, size in read) == heads + texts
    read.clear()
    check(tmp_path / "out", made[1], quantize.run(plan, 2))
    data = sum(file.stat().st_size for file in made[0].glob("*.safetensors")) - heads
    assert sum(size for _, size in read) == heads + texts + data


class Counted(MemoryFileSystem):  # type: ignore[misc]
    """Counts what is asked of a store: listings, and reads of files or of ranges."""

    protocol = "counted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked = 0

    def ls(self, *given: Any, **named: Any) -> Any:
        Counted.asked += 1
        return super().ls(*given, **named)

    def cat_file(self, *given: Any, **named: Any) -> Any:
        Counted.asked += 1
        return super().cat_file(*given, **named)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.replace("counted://", "memory://")))


@pytest.mark.parametrize("where", ["in", "both"])
def test_requests_do_not_grow_with_files_times_tasks(tmp_path: Path, where: str) -> None:
    """For each file of the input and for each task there are some, whatever the number of the others."""
    fsspec.register_implementation("counted", Counted, clobber=True)
    found = {}
    for shards in (4, 16):
        Counted.store.clear()
        Counted.pseudo_dirs[:] = [""]
        upload(checkpoint(tmp_path / f"in{shards}", shards), "counted://in")
        for size in (12_000, 1_000_000_000):
            target = f"counted://out{size}" if where == "both" else str(tmp_path / f"out{shards}-{size}")
            plan = quantize.plan("counted://in", target, **{**OPTIONS, "max_shard_size": size})
            Counted.asked = 0
            quantize.run(plan, 2)
            found[shards, size == 12_000] = Counted.asked, len(plan.shards)
    few, many = found[4, True], found[16, True]
    each = (many[0] - few[0]) / (many[1] - few[1])  # for a task, and its share of the input's files
    assert each < 12
    one, other = found[4, False], found[16, False]  # one task
    assert one[1] == other[1] == 1
    assert (other[0] - one[0]) / 12 <= 4  # its header, in two requests, and its data


def test_ranges_are_joined_where_they_meet() -> None:
    found = mirror._joined([("a", 3, 5), ("b", 9, 10), ("a", 0, 3), ("a", 7, 9), ("b", 10, 10)])
    assert found == [("a", 0, 5), ("a", 7, 9), ("b", 9, 10)]


def test_names_appear_in_order(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is uploaded gets its name when it is whole; shards, then the rest, then the manifest."""
    put: list[str] = []
    moved: list[str] = []
    for name, log in (("put", put), ("move", moved)):
        act = getattr(remote_stage.Folder, name)

        def note(folder: Any, what: str, *more: Any, act: Any = act, log: list[str] = log) -> None:
            act(folder, what, *more)
            log.append(f"{folder.url}/{more[0]}" if len(more) == 1 else f"{more[0].url}/{more[1]}")

        monkeypatch.setattr(remote_stage.Folder, name, note)
    plan = quantize.plan(made[0], "memory://out", **OPTIONS)
    sums = quantize.run(plan, 2)
    stage = f"memory://out/.quantize-{plan.hash[:16]}"
    assert all(re.fullmatch(re.escape(stage) + "/work/[0-9a-f]{32}", url) for url in put)
    named = [url.removeprefix("memory://out/") for url in moved if not url.startswith(stage)]
    shards = [name for name, _ in plan.shards]
    assert sorted(named[: len(shards)]) == shards
    rest = sorted(set(sums) - {*shards, plan_report.REPORT})
    assert named[len(shards) :] == [*rest, plan_report.REPORT, stages.MANIFEST]


def test_files_that_the_tool_leaves_out(tmp_path: Path) -> None:
    """What is not fetched, because it is not copied, is not in the output; all else is, whole."""
    source = checkpoint(tmp_path / "in", 2)
    names = [f"more{end}" for end in mirror.LEFT_OUT]
    for name in (*names, "notes.txt", "sub.model"):
        (source / name).write_bytes(os.urandom(300_000))
    plan = quantize.plan(source, tmp_path / "local", **OPTIONS)
    wanted = quantize.run(plan, 2)
    assert not set(names) & set(wanted)
    assert {"notes.txt", "sub.model"} <= set(wanted)
    given = quantize.run(quantize.plan(f"file://{source}", tmp_path / "out", **OPTIONS), 2)
    assert given == wanted


def test_changed_inputs_are_refused(tmp_path: Path) -> None:
    upload(checkpoint(tmp_path / "in", 2), "memory://in")
    plan = quantize.plan("memory://in", "memory://out", **OPTIONS)
    name = "/in/model-00002-of-00002.safetensors"
    memory = fsspec.filesystem("memory")
    memory.pipe_file(name, memory.cat_file(name)[::-1])
    with pytest.raises(quantize.PlanError, match=r"memory://in/.*00002\.safetensors is not what it was"):
        quantize.run(plan)
    memory.rm_file(name)
    with pytest.raises(quantize.PlanError, match=r"memory://in/.*00002\.safetensors is not there"):
        quantize.run(plan, resume=True)


def test_hostile_shards_are_named_and_resume_goes_on(tmp_path: Path) -> None:
    """Files of tensors that are done are in the output; nothing that a reader begins with is there."""
    upload(checkpoint(tmp_path / "in", 9, nan=4), "memory://in")
    plan = quantize.plan("memory://in", "memory://out", **OPTIONS)
    with pytest.raises(quantize.PlanError, match=r"memory://in.*layers\.4\.gate.*exit code 4") as caught:
        quantize.run(plan, 2)
    assert len(caught.value.failures) == 1
    memory = fsspec.filesystem("memory")
    names = {path.rsplit("/", 1)[-1] for path in memory.ls("/out", detail=False)}
    assert {name for name in names if name[0] != "."} < {name for name, _ in plan.shards}
    assert len(memory.ls(f"/out/.quantize-{plan.hash[:16]}/done")) == len(plan.shards)
    with pytest.raises(quantize.PlanError, match=r"memory://out/\.quantize-.* resume=True"):
        quantize.run(plan, 2)
    other = quantize.plan("memory://in", "memory://out", **{**OPTIONS, "seed": 1})
    with pytest.raises(quantize.PlanError, match="memory://out exists already"):
        quantize.run(other, 2, resume=True)
    cut = "/in/model-00003-of-00009.safetensors"
    memory.pipe_file(cut, b"\xff" * 100)
    with pytest.raises(quantize.PlanError, match=r"memory://in.*model-00003-of-00009"):
        quantize.plan("memory://in", "memory://out", **OPTIONS)


@pytest.mark.parametrize("last", ["tokenizer.json", plan_report.REPORT, stages.MANIFEST])
def test_resume_makes_only_what_is_missing(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    """Whichever file is the one that could not be given its name."""
    plan = quantize.plan(made[0], "memory://out", **OPTIONS)
    move = remote_stage.Folder.move

    def broken(folder: Any, name: str, to: Any, new: str) -> None:
        if new == last and to.url == "memory://out":
            raise quantize.PlanError("the store is gone")
        move(folder, name, to, new)

    with monkeypatch.context() as patch:
        patch.setattr(remote_stage.Folder, "move", broken)
        with pytest.raises(quantize.PlanError, match="the store is gone"):
            quantize.run(plan, 2)
    memory = fsspec.filesystem("memory")
    assert not memory.exists(f"/out/{stages.MANIFEST}")
    memory.pipe_file(f"/out/{plan.shards[1][0]}", b"damaged")
    memory.rm_file(f"/out/{plan.shards[2][0]}")
    again: list[str] = []
    call = running.call_tool

    def note(words: list[str], command: str) -> str:
        again.extend(word for word in words if word.startswith("--part"))
        return call(words, command)

    monkeypatch.setattr(running, "call_tool", note)
    given = quantize.run(plan, 2, resume=True)
    assert sorted(again) == ["--part=2", "--part=3", "--part=rest"]  # some of the rest has its name already
    check(download("memory://out", tmp_path / "out"), made[1], given)


def test_a_task_twice_at_once(made: Any, tmp_path: Path) -> None:
    plan = quantize.plan(made[0], "memory://out", **OPTIONS)
    stage = running._stage(plan)
    stage.begin(False)
    found: list[Any] = []
    with ThreadPoolExecutor(6) as threads:
        numbers = [*range(len(plan.shards) + 1)] * 2
        found = list(threads.map(lambda number: running.task(stage.plan_path, number, 1), sorted(numbers)))
    assert found[0::2] == found[1::2]
    given = quantize.run(plan, 2, resume=True)
    check(download("memory://out", tmp_path / "out"), made[1], given)


@pytest.mark.parametrize("moment", ["begin", "publish", "finish"])
@pytest.mark.parametrize("kind", ["memory", "file", "local"])
def test_two_runs_at_once(kind: str, moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without locks both do the work. Whatever one is at when the other ends, nothing is left over."""

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOLCK, "no locks here")

    monkeypatch.setattr(stages.fcntl, "lockf", refuse)
    monkeypatch.setattr(stages, "_held", type("Forgetful", (set,), {"__contains__": lambda *_: False})())
    source, wanted = make(tmp_path, 2)
    target = f"{base(kind, tmp_path)}/out" if kind != "local" else str(tmp_path / "twice")
    plan = quantize.plan(source, target, **OPTIONS)
    stage = type(running._stage(plan))
    act, others = getattr(stage, moment), list[dict[str, str]]()

    def other(*given: Any) -> Any:
        if not others:
            others.append({})  # no third one
            others[0] = quantize.run(plan, 2, resume=True)
        return act(*given)

    monkeypatch.setattr(stage, moment, other)
    given = quantize.run(plan, 1, resume=True)
    assert others == [given]
    check(download(target, tmp_path / "here") if kind != "local" else Path(target), wanted, given)


def test_memory_is_that_of_one_process(made: Any) -> None:
    plan = quantize.plan(made[0], "memory://out", **OPTIONS)
    with (
        ProcessPoolExecutor(1) as pool,
        pytest.raises(quantize.PlanError, match=r"memory://.*threads alone|is not there"),
    ):
        quantize.run(plan, pool)
    assert not fsspec.filesystem("memory").exists(f"/out/{stages.MANIFEST}")


@pytest.mark.parametrize("layout", ["own", "gptq", "bitsandbytes"])
def test_quantized_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    """They are copied, encoded again and converted as local ones are; tasks fetch what they need."""
    monkeypatch.setattr(mirror, "_HEAD", 64)
    rng = np.random.default_rng(1)
    (tmp_path / "floats").mkdir()
    tensors = {f"layers.{i}.weight": rng.standard_normal((64, 256), np.float32) for i in range(4)}
    quantize.save(tmp_path / "floats/model.safetensors", {**tensors, "n": np.ones(9, np.float32)})
    scheme = {"own": "uint4", "gptq": "int4", "bitsandbytes": "nf4"}[layout]
    made = tmp_path / "own"
    quantize.encode_file(tmp_path / "floats", made, scheme=scheme, group_size=64, max_shard_size=12_000)
    if layout != "own":
        made = tmp_path / layout
        quantize.convert_file(tmp_path / "own", made, to=layout, max_shard_size=12_000)
    upload(made, source := "memory://in")
    big = sum(file.stat().st_size for file in made.glob("*.safetensors"))
    read: list[int] = []
    fetch = mirror.Folder._fetch

    def note(folder: Any, ranges: Any, where: str) -> None:
        read.extend(end - begin for _, begin, end in ranges)
        fetch(folder, ranges, where)

    monkeypatch.setattr(mirror.Folder, "_fetch", note)
    to = {"own": "gptq", "gptq": "awq", "bitsandbytes": "own"}[layout]
    for number, options in enumerate(
        [
            {"to": to, "requantize": layout == "own"},
            {"scheme": "nf4"},
            {"scheme": "nf4", "requantize": True},
        ]
    ):
        local = quantize.plan(made, tmp_path / f"local{number}", max_shard_size=9000, **options)  # type: ignore[arg-type]
        wanted = quantize.run(local, 2)
        read.clear()
        plan = quantize.plan(source, tmp_path / f"out{number}", max_shard_size=9000, **options)  # type: ignore[arg-type]
        looked = "to" in options and layout == "own"
        assert (sum(read) > big) == looked  # GPTQ has no zeros of 0, so that numbers must be looked at
        read.clear()
        given = quantize.run(plan, 2)
        assert big - 9000 < sum(read) < big + 9000
        assert wanted == given


def test_what_is_no_checkpoint(made: Any, tmp_path: Path) -> None:
    for source, message in [
        ("memory://nothing", "memory://nothing is no folder"),
        ("nosuch://a/b", "nosuch://a/b: Protocol not known"),
        (f"file://{tmp_path}/none", "none is no folder"),
    ]:
        with pytest.raises(quantize.PlanError, match=message):
            quantize.plan(source, tmp_path / "out")
    with pytest.raises(quantize.PlanError, match="weights: memory://w must be a file that workers see"):
        quantize.plan(made[0], tmp_path / "out", weights="memory://w")
    fsspec.filesystem("memory").pipe_file("/out/other", b"1")
    with pytest.raises(quantize.PlanError, match="memory://out exists already, and is no empty folder"):
        quantize.run(quantize.plan(made[0], "memory://out", **OPTIONS))


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_local_disk_that_is_full(made: Any, tmp_path: Path) -> None:
    """Where a worker keeps what it fetches: the message names the URL, and where to find room."""
    upload(made[0], f"file://{tmp_path}/in")
    plan = quantize.plan(f"file://{tmp_path}/in", f"file://{tmp_path}/out", **OPTIONS)
    with (
        ProcessPoolExecutor(1, initializer=limit_files) as small,
        pytest.raises(quantize.PlanError) as caught,
    ):
        quantize.run(plan, small)
    for why in caught.value.failures.values():
        assert re.search(r"file://.*/in.* cannot be kept in .*: File too large; TMPDIR", why)
    given = quantize.run(plan, 2, resume=True)
    check(tmp_path / "out", made[1], given)


def test_versions_of_files(tmp_path: Path) -> None:
    """A store that tells no version is refused; otherwise the surest word counts."""
    entry = {"name": "in/a", "size": 1, "type": "file"}
    from quantize import remote

    with pytest.raises(quantize.PlanError, match="in/a: its store tells neither version nor time"):
        remote._version(entry)
    one = remote._version({**entry, "ETag": "a", "LastModified": "x"})
    assert one == remote._version({**entry, "ETag": "a", "LastModified": "y"})
    assert one != remote._version({**entry, "ETag": "b", "LastModified": "x"})


def test_without_fsspec_there_is_a_remedy(made: Any, tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['fsspec'] = None\nimport quantize\n"
        f"plan = quantize.plan({str(made[0])!r}, {str(tmp_path / 'out')!r})\nprint('local')\n"
        f"quantize.run(quantize.plan({str(made[0])!r}, 'memory://out'))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout == "local\n"
    assert 'URLs need the package fsspec: pip install "quantize-int4[fsspec]"' in done.stderr


def test_fsspec_is_imported_for_urls_only(made: Any, tmp_path: Path) -> None:
    code = (
        f"import sys, quantize\nquantize.run(quantize.plan({str(made[0])!r}, {str(tmp_path / 'out')!r}), 2)\n"
        "assert 'fsspec' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
