"""Plans: whatever runs the tasks and whatever ends them, the folder has the bytes of one run of the tool."""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import hashlib
import json
import multiprocessing
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest
import quantize
import safetensors.numpy
from checkpoints import OPTIONS, check, checkpoint, converted, make, quantized, sums
from quantize import plan_report, planning, running, stages, tool


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    return make(tmp_path_factory.mktemp("made"), 9)


class Twice(Executor):
    """Runs each task twice at once, and gives the result of either."""

    def __init__(self) -> None:
        self.threads = ThreadPoolExecutor(6)

    def submit(self, function: Any, /, *given: Any, **named: Any) -> Future[Any]:
        both = [self.threads.submit(function, *given, **named) for _ in range(2)]
        return self.threads.submit(lambda: [one.result() for one in both][random.randrange(2)])

    def shutdown(self, *given: Any, **named: Any) -> None:
        self.threads.shutdown()


EXECUTORS = {
    "1": lambda: 1,
    "2": lambda: 2,
    "4": lambda: 4,
    "threads": lambda: ThreadPoolExecutor(3),
    "processes": lambda: ProcessPoolExecutor(2),
    "twice": Twice,
}


@pytest.mark.parametrize("name", EXECUTORS)
def test_bytes_are_those_of_the_tool(made: Any, tmp_path: Path, name: str) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    assert len(plan.shards) > 9
    assert sorted(os.listdir(tmp_path)) == []  # planning leaves nothing
    executor = EXECUTORS[name]()
    steps: list[tuple[int, int]] = []
    given = quantize.run(plan, executor, progress=lambda done, all_: steps.append((done, all_)))
    if isinstance(executor, Executor):
        executor.shutdown()
    check(tmp_path / "out", made[1], given)
    assert steps == [(i, len(plan.shards) + 1) for i in range(1, len(plan.shards) + 2)]
    assert quantize.run(plan, resume=True) == given  # all is done


def report_of(folder: Path) -> dict[str, Any]:
    """The data of a report, which no name in it can end."""
    text = (folder / plan_report.REPORT).read_text("ascii")
    data = text.split('id="data">')[1].split("</script>")[0]
    assert not set("<>&") & set(data)
    found: dict[str, Any] = json.loads(data)
    return found


def test_report_has_what_the_tool_tells(tmp_path: Path) -> None:
    """Tensors in their order, with their errors; files with their sums; nothing of where and when."""
    source = checkpoint(tmp_path / "in", 4)
    odd = source / "model-00004-of-00004.safetensors"
    tensors = safetensors.numpy.load_file(odd) | {"</script><!--&": np.ones((9, 40), np.float32)}
    safetensors.numpy.save_file(tensors, odd)
    index = json.loads((source / "model.safetensors.index.json").read_text())
    index["weight_map"]["</script><!--&"] = odd.name
    (source / "model.safetensors.index.json").write_text(json.dumps(index))
    rules = [f"--rule={pattern}={action}" for pattern, action in OPTIONS["rules"]]
    words = ["--max-shard-size=12000", *rules, "--json"]
    told = json.loads(tool.call_tool([str(source), str(tmp_path / "whole"), *words]))
    texts = set()
    for name, executor in (("one", 1), ("other", ThreadPoolExecutor(4))):
        plan = quantize.plan(source, tmp_path / name, **OPTIONS)
        given = quantize.run(plan, executor)
        found = report_of(tmp_path / name)
        texts.add((tmp_path / name / plan_report.REPORT).read_bytes())
        assert found["tensors"] == told["tensors"]
        assert {**found["totals"], "sqnr_db": None} == {
            key: None if key == "sqnr_db" else value for key, value in told.items() if key != "tensors"
        }
        assert found["totals"]["sqnr_db"] == pytest.approx(told["sqnr_db"], abs=1e-6)
        outputs = {file["path"]: file["sha256"] for file in found["files"] if file["role"] == "output"}
        assert outputs == {name: sum_ for name, sum_ in given.items() if name != plan_report.REPORT}
        assert str(tmp_path).encode() not in (tmp_path / name / plan_report.REPORT).read_bytes()
    assert len(texts) == 1


def test_reports_of_other_plans_are_not_copied(made: Any, tmp_path: Path) -> None:
    """Manifest and report of an input are not those of the output."""
    source = tmp_path / "in"
    shutil.copytree(made[0], source)
    for name in (stages.MANIFEST, plan_report.REPORT):
        (source / name).write_text("{}")
    plan = quantize.plan(source, tmp_path / "out", **OPTIONS)
    check(tmp_path / "out", made[1], quantize.run(plan, 2))


@pytest.mark.parametrize("requantize", [False, True])
def test_quantized_checkpoints(tmp_path: Path, requantize: bool) -> None:
    """What is quantized already is copied, or encoded again, as the tool does it."""
    first = quantize.plan(checkpoint(tmp_path / "in", 3), tmp_path / "q", **OPTIONS)
    quantize.run(first, 2)
    options = {"max_shard_size": 9_000, "scheme": "nf4", "requantize": requantize}
    words = ["--max-shard-size=9000", "--scheme=nf4", *(["--requantize"] if requantize else [])]
    tool.call_tool([str(tmp_path / "q"), str(tmp_path / "whole"), *words])
    plan = quantize.plan(tmp_path / "q", tmp_path / "out", **options)
    assert len(plan.shards) > 3
    check(tmp_path / "out", sums(tmp_path / "whole"), quantize.run(plan, 2))
    actions = {tensor["action"] for tensor in report_of(tmp_path / "out")["tensors"]}
    assert ("requantize" in actions) == requantize


@pytest.mark.parametrize(
    ("scheme", "to", "requantize"),
    [("int4", "gptq", False), ("nf4", "bitsandbytes", False), ("uint4", "gptq", True)],
)
def test_conversions(tmp_path: Path, scheme: Any, to: str, requantize: bool) -> None:
    """The bytes of ``quantize convert``, whatever runs the tasks; back again, the values that there were."""
    source = quantized(tmp_path, scheme)
    wanted = converted(source, tmp_path / "whole", to, requantize)
    options: dict[str, Any] = {"to": to, "max_shard_size": 9000, "requantize": requantize}
    plan = quantize.plan(source, tmp_path / "out", **options)
    assert len(plan.shards) > 3
    assert quantize.Plan.from_json(plan.to_json()) == plan
    with pytest.raises(quantize.PlanError, match="1 of"):
        quantize.run(plan, Broken(len(plan.shards)))
    given = quantize.run(plan, Twice(), resume=True)
    check(tmp_path / "out", wanted, given)
    assert quantize.run(plan, resume=True) == given
    assert report_of(tmp_path / "out")["totals"]["layout"] == to
    if not requantize:
        quantize.run(quantize.plan(tmp_path / "out", tmp_path / "back", to="own"), 1)
        assert not quantize.compare_files(source, tmp_path / "back", min_sqnr=1000).different


def test_tasks_of_conversions_do_not_choose_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or each task would read all tensors to see whether their zeros have a place."""
    source = quantized(tmp_path, "uint4")
    plan = quantize.plan(source, tmp_path / "out", to="gptq", requantize=True, max_shard_size=9000)
    last = source / sorted(name for name in os.listdir(source) if name.endswith(".safetensors"))[-1]
    seen: list[list[str]] = []
    call = running.call_tool

    def note(words: list[str], command: str) -> str:
        seen.append(words)
        return call(words, command)

    monkeypatch.setattr(running, "call_tool", note)
    monkeypatch.setattr(planning.Plan, "check_inputs", lambda *_, **__: None)
    data = bytearray(last.read_bytes())
    end = 8 + int.from_bytes(data[:8], "little")
    begin, stop = json.loads(data[8:end])["layers.4.weight.scales"]["data_offsets"]
    data[end + begin : end + stop] = b"\xff" * (stop - begin)
    last.write_bytes(data)
    with pytest.raises(quantize.PlanError) as caught:
        quantize.run(plan, 1)
    assert len(seen) == len(plan.shards) + 1
    assert set(caught.value.failures) == {plan.shards[-1][0]}


def test_what_conversions_do_not_have(tmp_path: Path) -> None:
    source = quantized(tmp_path, "int4")
    for options in ({"rules": [("a", "keep")]}, {"scheme": "nf4"}, {"default_rules": False}, {"seed": 1}):
        with pytest.raises(TypeError, match=r"plan\(\)|plan\(to="):
            quantize.plan(source, tmp_path / "out", to="gptq", **options)
    with pytest.raises(quantize.PlanError, match="--to 'x'"):
        quantize.plan(source, tmp_path / "out", to="x")
    plan = quantize.plan(source, tmp_path / "out", to="gptq")
    others = [quantize.plan(source, tmp_path / "out", to="gptq", verify=False)]
    others.append(quantize.plan(source, tmp_path / "out", to="gptq_v2"))
    assert len({one.hash for one in (plan, *others)}) == 3


def test_nothing_but_empty_tensors(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    quantize.save(tmp_path / "in/model.safetensors", {"a": np.zeros((0, 64), np.float32)})
    quantize.run(quantize.plan(tmp_path / "in", tmp_path / "out", min_size=1), 1)
    assert report_of(tmp_path / "out")["totals"]["sqnr_db"] is None


@pytest.mark.parametrize("prefix", ["", "file://"])
def test_files_in_folders_of_the_checkpoint(tmp_path: Path, prefix: str) -> None:
    source, target = checkpoint(tmp_path / "in", 1), tmp_path / "out"
    for name in ("1_Pooling/config.json", "a/b/c"):
        (source / name).parent.mkdir(parents=True)
        (source / name).write_text(name)
    (source / "empty").mkdir()
    plan = quantize.plan(source, f"{prefix}{target}")
    assert {path for path, _, _ in plan.inputs} > {str(source / name) for name in ("a/b/c", "config.json")}
    given = quantize.run(plan, 1)
    assert quantize.run(plan, resume=True) == given
    assert {name for name in given if "/" in name} == {"1_Pooling/config.json", "a/b/c"}
    for name in given:
        assert hashlib.sha256((target / name).read_bytes()).hexdigest() == given[name]
    assert (target / "a/b/c").read_text() == "a/b/c"
    assert not [*target.rglob("empty"), *tmp_path.glob(".quantize*")]


def test_dask(made: Any, tmp_path: Path) -> None:
    with (
        distributed.LocalCluster(n_workers=2, dashboard_address=":0") as cluster,
        cluster.get_client() as client,
    ):
        plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
        check(tmp_path / "out", made[1], quantize.run(plan, client.get_executor()))


def test_json(made: Any, tmp_path: Path) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    text = plan.to_json()
    assert quantize.Plan.from_json(text) == plan
    assert plan.hash == quantize.plan(made[0], tmp_path / "other", **OPTIONS).hash
    assert plan.hash != quantize.plan(made[0], tmp_path / "out", **OPTIONS, seed=1).hash
    for other in ("", "[]", "{}", text.replace("nf4", "int4"), text.replace('"plan": 2', '"plan": 1')):
        with pytest.raises(quantize.FormatError):
            quantize.Plan.from_json(other)


def test_plans_that_lead_elsewhere(made: Any, tmp_path: Path) -> None:
    """Whoever edits a plan can compute its hash, too."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    first, *others = plan.shards
    for change, why in [
        ({"shards": (("../evil", 1), *others)}, "no name of a file"),
        ({"shards": ((".", 1), *others)}, "no name of a file"),
        ({"shards": (("a", "1"), *others)}, "integer"),
        ({"target": "out"}, "no full path"),
        ({"source": "in"}, "no full path"),
        ({"inputs": ()}, "no inputs"),
        ({"command": "decode"}, "its command"),
        ({"arguments": ("--force", "x")}, "its command"),
        ({"arguments": ("--force",)}, "its command"),
        ({"arguments": (f"--report={tmp_path}/evil",)}, "its command"),
        ({"arguments": ("--to=gptq",)}, "its command"),
        ({"choices": ("x",)}, "integer"),
    ]:
        with pytest.raises(quantize.FormatError, match=f"this is no plan: .*{why}"):
            quantize.Plan.from_json(dataclasses.replace(plan, **change).to_json())
    for shards in ((first,), plan.shards[:2]):
        with pytest.raises(quantize.PlanError) as caught:
            quantize.run(dataclasses.replace(plan, shards=shards), 2)
        assert any("other files than the output" in why for why in caught.value.failures.values())
        assert not (tmp_path / "out").exists()
    with pytest.raises(quantize.PlanError, match=r"is of version 0\.0\.9 of this package"):
        quantize.run(dataclasses.replace(plan, version="0.0.9"))


def test_records_and_manifests_that_lead_elsewhere(made: Any, tmp_path: Path) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    stage = stages.LocalStage(plan)
    stage.begin(True)
    (tmp_path / "evil").write_bytes(b"x")
    one = [1, hashlib.sha256(b"x").hexdigest()]
    record = Path(stage.path) / "done" / "0"
    for files in ({"../../evil": one}, {}):  # the second is that of an output in one file
        record.write_text(json.dumps({"files": files, "told": {}}))
        assert stage.recorded(0) is None
    given = quantize.run(plan, 2, resume=True)
    check(tmp_path / "out", made[1], given)
    manifest = tmp_path / "out" / stages.MANIFEST
    text = manifest.read_text()
    for bad in (text.replace("config.json", "../evil"), text.replace(plan.shards[0][0], "x"), "[]"):
        manifest.write_text(bad)
        with pytest.raises(quantize.PlanError, match="exists already"):
            quantize.run(plan, resume=True)
    manifest.write_text(text)
    assert quantize.run(plan, resume=True) == given
    (tmp_path / "out/config.json").write_text("{}")
    with pytest.raises(quantize.PlanError, match=r"config\.json is not what .*manifest\.json says; remove"):
        quantize.run(plan, resume=True)


@pytest.mark.parametrize("kind", ["link", "file"])
def test_something_else_in_the_place_of_a_stage(made: Any, tmp_path: Path, kind: str) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    place = Path(stages.LocalStage(plan).path)
    (tmp_path / "other").mkdir()
    if kind == "link":
        place.symlink_to(tmp_path / "other")
    else:
        place.touch()
    with pytest.raises(quantize.PlanError, match=r"\.quantize-out-.*(File exists|is a link)"):
        quantize.run(plan, 2, resume=True)
    assert not list((tmp_path / "other").iterdir())


def test_rules_and_lists_in_other_words(made: Any, tmp_path: Path) -> None:
    """As `encode_file` takes them, too."""
    pairs = [("*.up", "keep"), ("*.down", "nf4")]
    plans = [
        quantize.plan(made[0], tmp_path / "out", rules=rules, include=names)
        for rules, names in [(pairs, ["*"]), (dict(pairs), "*"), (list(map("=".join, pairs)), ("*",))]
    ]
    assert plans[0] == plans[1] == plans[2]
    for executor in (0, -1):
        with pytest.raises(ValueError, match="at least 1"):
            quantize.run(plans[0], executor)


def test_changed_inputs_are_refused(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "in", 2)
    plan = quantize.plan(source, tmp_path / "out", **OPTIONS)
    file = source / "model-00002-of-00002.safetensors"
    file.write_bytes(file.read_bytes()[::-1])
    with pytest.raises(quantize.PlanError, match="make the plan anew"):
        quantize.run(plan)
    assert not (tmp_path / "out").exists()


def test_changes_of_what_is_copied_are_refused(tmp_path: Path) -> None:
    """In folders, too, and files that are new: without them the run goes on."""
    source = checkpoint(tmp_path / "in", 2)
    (source / "sub").mkdir()
    (source / "sub/a").write_text("a")
    plan = quantize.plan(source, tmp_path / "out", **OPTIONS)
    (source / ".hidden").mkdir()
    (source / ".hidden/x").touch()  # the tool copies none of these
    for name in ("new", "sub/new"):
        (source / name).touch()
        with pytest.raises(quantize.PlanError, match=f"1 of .*in/{name} was not there when"):
            quantize.run(plan, 2, resume=True)
        (source / name).unlink()
    text = (source / "sub/a").stat()
    (source / "sub/a").write_text("abc")
    with pytest.raises(quantize.PlanError, match="sub/a is not what it was"):
        quantize.run(plan, 2, resume=True)
    (source / "sub/a").write_text("a")
    os.utime(source / "sub/a", ns=(text.st_atime_ns, text.st_mtime_ns))
    assert "sub/a" in quantize.run(plan, 2, resume=True)
    os.rename(source / "sub", source / "other")
    assert plan.hash != quantize.plan(source, tmp_path / "out2", **OPTIONS).hash


class Strange(Executor):
    """Gives results of other tasks, or others, but to one in three."""

    def __init__(self, change: Any) -> None:
        self.threads, self.change, self.number = ThreadPoolExecutor(1), change, 0

    def submit(self, function: Any, /, *given: Any, **named: Any) -> Future[Any]:
        self.number += 1
        keep = self.number % 3 == 0
        return self.threads.submit(
            lambda: function(*given) if keep else self.change(function, *given, **named)
        )


class Same(Executor):
    """Gives the future of what lies beside the tensors for every task."""

    def __init__(self) -> None:
        self.future: Future[Any] = Future()

    def submit(self, function: Any, /, path: Any, number: Any, threads: Any) -> Future[Any]:
        if number == stages.REST:
            self.future.set_result(function(path, number, threads))
        return self.future


def test_executors_that_return_something_else(made: Any, tmp_path: Path) -> None:
    """A result counts only for the task that it is of, or files would be missing in the output."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    last = len(plan.shards)
    for change in (
        lambda *_: None,
        lambda *_: {},
        lambda call, path, number, threads: call(path, number % last + 1, threads),
        lambda call, *given: list(call(*given)),
    ):
        with pytest.raises(quantize.PlanError, match="the executor returned") as caught:
            quantize.run(plan, Strange(change), resume=True)
        assert len(caught.value.failures) == last + 1 - (last + 1) // 3
        assert not (tmp_path / "out").exists()
    with pytest.raises(quantize.PlanError, match=r"failed, .*one future for several tasks; resume") as caught:
        quantize.run(plan, Same(), resume=True)
    assert len(caught.value.failures) == last
    check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))
    for wrong, why in ((distributed.Client, "Client|type"), (2.5, "float"), ("2", "str")):
        with pytest.raises(TypeError, match=f"executor is a ({why}), not a number"):
            quantize.run(plan, wrong)  # type: ignore[arg-type]


def test_tasks_that_come_late(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A task that is done twice may be at work when the run ends: nothing of it is left."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    publish, late = stages.LocalStage.publish, []

    def keep(stage: Any, number: int, part: str, record: Any, work: str) -> None:
        late.append((stage, number, part, record, work))
        publish(stage, number, part, record, work)

    monkeypatch.setattr(stages.LocalStage, "publish", keep)
    given = quantize.run(plan, 2)
    assert len(late) == len(plan.shards) + 1
    for one in late:
        with pytest.raises(FileNotFoundError):
            publish(*one)
    check(tmp_path / "out", made[1], given)


def test_hostile_shards_are_named(tmp_path: Path) -> None:
    source = checkpoint(tmp_path / "in", 9, nan=4)
    plan = quantize.plan(source, tmp_path / "out", **OPTIONS)
    with pytest.raises(quantize.PlanError, match=r"layers\.4\.gate.*exit code 4") as caught:
        quantize.run(plan, 2)
    assert len(caught.value.failures) == 1
    assert not (tmp_path / "out").exists()
    done = next(tmp_path.glob(".quantize-out-*")) / "done"
    assert len(list(done.iterdir())) == len(plan.shards)  # all but one, and the rest
    with pytest.raises(quantize.PlanError, match="resume=True"):
        quantize.run(plan, 2)
    (source / "model-00003-of-00009.safetensors").write_bytes(b"\xff" * 100)
    with pytest.raises(quantize.PlanError, match="model-00003-of-00009"):
        quantize.plan(source, tmp_path / "out", **OPTIONS)


class Broken(Executor):
    """Takes some tasks and no more, as a pool whose worker is gone."""

    def __init__(self, most: int = 3) -> None:
        self.threads = ThreadPoolExecutor(2)
        self.left = most

    def submit(self, function: Any, /, *given: Any, **named: Any) -> Future[Any]:
        self.left -= 1
        if self.left < 0:
            raise BrokenExecutor("no worker is left")
        return self.threads.submit(function, *given, **named)


def test_executors_that_break_while_tasks_are_given_out(made: Any, tmp_path: Path) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    with pytest.raises(quantize.PlanError, match="no worker is left; resume=True keeps") as caught:
        quantize.run(plan, Broken())
    assert len(caught.value.failures) == len(plan.shards) + 1 - 3
    check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))


def limit_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (12_000, 12_000))
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_full_disk(made: Any, tmp_path: Path) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    with (
        ProcessPoolExecutor(1, initializer=limit_files) as small,
        pytest.raises(quantize.PlanError) as caught,
    ):
        quantize.run(plan, small)
    assert 0 < len(caught.value.failures) < len(plan.shards)
    assert all("exit code 5" in why for why in caught.value.failures.values())
    check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))


def test_damaged_shards_are_made_again(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    with monkeypatch.context() as patch:
        patch.setattr(stages.LocalStage, "finish", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            quantize.run(plan, 2)
    files = next(tmp_path.glob(".quantize-out-*")) / "files"
    with (files / plan.shards[1][0]).open("r+b") as file:
        file.truncate(100)
    (files / plan.shards[2][0]).unlink()
    (files / "stray").write_bytes(b"")
    check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))


DRIVER = """
import quantize, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

def wait(done, all_):
    print(done, flush=True)
    if done == 2:
        open(sys.argv[3]).read()

plan = quantize.Plan.from_json(open(sys.argv[2]).read())
quantize.run(plan, eval(sys.argv[1])(2), progress=wait)
"""


@contextlib.contextmanager
def driver_at_work(plan: quantize.Plan, folder: Path, executor: str) -> Iterator[subprocess.Popen[bytes]]:
    """A process that runs a plan, has done two tasks, and waits until somebody opens the pipe."""
    (folder / "plan").write_text(plan.to_json())
    os.mkfifo(folder / "pipe")
    words = [sys.executable, "-c", DRIVER, executor, str(folder / "plan"), str(folder / "pipe")]
    with subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True) as driver:
        assert driver.stdout is not None
        try:
            assert [driver.stdout.readline() for _ in range(2)] == [b"1\n", b"2\n"]
            yield driver
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(driver.pid, signal.SIGKILL)


@pytest.mark.parametrize("executor", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_a_second_run_is_refused(made: Any, tmp_path: Path, executor: str) -> None:
    """A run that is at work is left alone, and comes to its end."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    with driver_at_work(plan, tmp_path, executor) as driver:
        for resume in (False, True):
            with pytest.raises(quantize.PlanError, match=f"another run .*, process {driver.pid} on "):
                quantize.run(plan, 1, resume)
        (tmp_path / "pipe").write_bytes(b"")
        assert driver.wait() == 0
    check(tmp_path / "out", made[1], quantize.run(plan, resume=True))


@pytest.mark.parametrize("executor", ["ThreadPoolExecutor", "ProcessPoolExecutor"])
def test_orphans_do_not_hold_the_plan(made: Any, tmp_path: Path, executor: str) -> None:
    """Workers that outlive a killed driver keep nobody from going on."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    with driver_at_work(plan, tmp_path, executor) as driver:
        driver.kill()
        driver.wait()
        check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))


def test_a_record_without_the_file_is_none(made: Any, tmp_path: Path) -> None:
    """Whatever an orphan wrote of a folder that was being removed."""
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    stage = stages.LocalStage(plan)
    stage.begin(True)
    name, other = plan.shards[0][0], plan.shards[1][0]
    (Path(stage.path) / "files" / other).write_bytes(b"x")
    one = {other: [1, hashlib.sha256(b"x").hexdigest()]}
    for text in ("{}", "[]", json.dumps(one), json.dumps({"files": one, "told": {}})):
        (Path(stage.path) / "done" / "1").write_text(text)
        assert stage.recorded(1) is None
    with pytest.raises(quantize.PlanError, match="lost files"):
        stage.publish(1, str(tmp_path / "part"), stages.Record({}, {}), str(tmp_path))
    check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))
    assert name in os.listdir(tmp_path / "out")


def test_what_tasks_were_making_goes_at_once(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that is still at work finds its folder whole, or not at all."""
    stage = stages.LocalStage(quantize.plan(made[0], tmp_path / "out", **OPTIONS))
    stage.begin(True)
    seen = []
    remove = shutil.rmtree

    def watched(path: str, **named: Any) -> None:
        seen.append(os.path.exists(work))
        remove(path, **named)

    with stage.work() as work:
        monkeypatch.setattr(shutil, "rmtree", watched)
        stage.begin(True)
        assert seen[0] is False
        assert sorted(os.listdir(stage.path)) == ["done", "files", "plan", "work"]


def test_a_second_run_of_a_thread_is_refused(made: Any, tmp_path: Path) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)

    def second(done: int, _: int) -> None:
        with pytest.raises(quantize.PlanError, match=f"another run .*, process {os.getpid()}; wait"):
            quantize.run(plan, 2, resume=True)

    check(tmp_path / "out", made[1], quantize.run(plan, 2, progress=second))


@pytest.mark.parametrize("name", ["ENOLCK", "EOPNOTSUPP"])
def test_file_systems_without_locks(
    made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A plan is carried out there, too, and what may be another run's is not cleared."""

    def refuse(*_: Any) -> None:
        raise OSError(getattr(errno, name), "no locks here")

    monkeypatch.setattr(stages.fcntl, "lockf", refuse)
    monkeypatch.setattr(stages, "_held", type("Forgetful", (set,), {"__contains__": lambda *_: False})())
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    other = Path(stages.LocalStage(plan).path) / "work" / "other"
    other.mkdir(parents=True)
    there = []
    page, manifest = stages.page, stages.manifest

    def second(*given: Any) -> str:
        """Another run, which ends after it has looked what does not belong to the output."""
        monkeypatch.setattr(stages, "page", lambda *_: refuse())
        with pytest.raises(OSError, match="no locks here"):
            quantize.run(plan, 2, resume=True)
        monkeypatch.setattr(stages, "page", page)
        return manifest(*given)

    monkeypatch.setattr(stages, "manifest", second)
    given = quantize.run(plan, 2, resume=True, progress=lambda *_: there.append(other.is_dir()))
    assert all(there)
    check(tmp_path / "out", made[1], given)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ZeroDivisionError])
def test_an_interrupted_run_ends_soon(made: Any, tmp_path: Path, error: type[BaseException]) -> None:
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)

    def interrupt(*_: Any) -> None:
        raise error

    with pytest.raises(error):
        quantize.run(plan, 2, progress=interrupt)
    done = len(os.listdir(Path(stages.LocalStage(plan).path) / "done"))
    assert done <= 4  # the first, and what two workers had begun meanwhile
    check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))


KILLED = "import quantize, sys; quantize.run(quantize.Plan.from_json(sys.stdin.read()), 2, resume=True)"


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 4))])
def test_killed_drivers(made: Any, tmp_path: Path, seed: int) -> None:
    """SIGKILL at five moments of a run each: what is there is kept, and the end is the same."""
    rng = random.Random(seed)
    plan = quantize.plan(made[0], tmp_path / "out", **OPTIONS)
    kept: set[str] = set()
    for _ in range(5):
        driver = subprocess.Popen(
            [sys.executable, "-c", KILLED], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        assert driver.stdin is not None
        driver.stdin.write(plan.to_json().encode())
        driver.stdin.close()
        time.sleep(rng.uniform(0.1, 0.6))
        driver.kill()
        driver.wait()
        done = {f.name for folder in tmp_path.glob(".quantize-out-*/done") for f in folder.iterdir()}
        assert done >= kept or (tmp_path / "out").exists()
        kept = done
    check(tmp_path / "out", made[1], quantize.run(plan, 2, resume=True))


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, 5))])
def test_killed_workers(made: Any, tmp_path: Path, seed: int) -> None:
    """SIGKILL of a worker at ten random moments; the run fails or not, and resume ends it."""
    rng = random.Random(seed)
    takes = 0.0
    for i in range(11):
        plan = quantize.plan(made[0], tmp_path / str(i), **OPTIONS)
        with ProcessPoolExecutor(2) as pool:
            victim = pool.submit(os.getpid).result()
            begin = time.monotonic()
            driver = ThreadPoolExecutor(1).submit(quantize.run, plan, pool)
            if i == 0:  # how long one takes that nobody disturbs
                driver.result()
                takes = time.monotonic() - begin
            else:
                time.sleep(rng.uniform(0, takes))
            os.kill(victim, signal.SIGKILL)
            try:
                given = driver.result()
            except quantize.PlanError as error:
                assert error.failures  # noqa: PT017
                given = quantize.run(plan, 2, resume=True)
            # A worker that starts while another dies is not always ended: CPython 3.11 then waits for it.
            for child in multiprocessing.active_children():
                child.kill()
        check(tmp_path / str(i), made[1], given)


def test_what_is_no_checkpoint(tmp_path: Path) -> None:
    """Nothing beside a wrong source is looked at, whoever may be changing it."""
    (tmp_path / "model.safetensors").write_bytes(b"")
    for source, words in (("none", "none: No such file"), ("model.safetensors", "use quantize.encode_file")):
        with pytest.raises(quantize.PlanError, match=words):
            quantize.plan(tmp_path / source, tmp_path / "out")
    with pytest.raises(TypeError, match=r"plan is of type int; quantize\.plan makes one"):
        quantize.run(3)  # type: ignore[arg-type]
