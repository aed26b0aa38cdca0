"""What the tool says where: terminals, pipes that end early, closed descriptors, files of other kinds."""

import fcntl
import json
import os
import pty
import re
import shutil
import signal
import struct
import subprocess
import termios
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Array = Any
UTF8 = {"LC_ALL": "C.UTF-8"}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def weights(*shape: int) -> Array:
    return np.random.default_rng(7).standard_normal(shape).astype(np.float32)


def on_terminal(tool: str, *arguments: str, columns: int = 80, **environment: str) -> tuple[int, bytes]:
    """Exit code and output of the tool with stdout and stderr on a terminal of that width."""
    here, there = pty.openpty()
    fcntl.ioctl(there, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    child = subprocess.Popen(
        [tool, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=there,
        stderr=there,
        env={**os.environ, **environment},
    )
    os.close(there)
    out = b""
    while True:
        try:
            piece = os.read(here, 65536)
        except OSError:  # the terminal is gone with its last user
            piece = b""
        if not piece:
            break
        out += piece
    os.close(here)
    return child.wait(), out


# --- names ---


PLAIN = ["ünï/cödé", "层.0.weight", "Ωμέγα", "emoji 🙂", "e\u0301"]
HIDDEN = {
    "a\x1b[2Jb": rb"a\x1b[2Jb",
    "a\u202eb": rb"a\u{202e}b",
    "a\u200bb": rb"a\u{200b}b",
    "a\u0085b": rb"a\u{85}b",
    "a\u2028b": rb"a\u{2028}b",
    "a\ue000b": rb"a\u{e000}b",
    "a\U000e0041b": rb"a\u{e0041}b",
    "a\nb": rb"a\nb",
    "a\\u{41}b": rb"a\\u{41}b",
}


def test_names_on_a_terminal(tool: str) -> None:
    with zipfile.ZipFile("in.npz", "w") as archive:
        for name in [*PLAIN, *HIDDEN]:
            np.save("x.npy", weights(4, 64))
            archive.writestr(f"{name}.npy", Path("x.npy").read_bytes())
    code, out = on_terminal(tool, "info", "in.npz", **UTF8)
    assert code == 0
    for name in PLAIN:
        assert name.encode() in out, name
    for text in HIDDEN.values():
        assert text in out
    assert set(re.findall(rb"[\x00-\x1f\x7f]", out)) <= {b"\r", b"\n"}
    # The columns stand below one another, as wide as characters are.
    column = out.decode().splitlines()[0].index("type")
    for line in out.decode().splitlines()[1 : len(PLAIN) + 1]:
        before = line[: line.index("float32")]
        wide = sum(1 + (ch > "\u1100") - (ch == "\u0301") for ch in before)
        assert wide == column, line
    code, out = on_terminal(tool, "info", "in.npz", LC_ALL="C")
    assert code == 0
    assert out.isascii()
    code, out = on_terminal(tool, "decode", "in.npz", "out.npy", "--tensor", "жук", **UTF8)
    assert code == 2
    assert "'жук'".encode() in out


def test_names_that_are_not_utf8(tool: str) -> None:
    np.save("x.npy", weights(4, 64))
    with zipfile.ZipFile("in.npz", "w") as archive:
        archive.writestr("a%%.npy", Path("x.npy").read_bytes())
    Path("in.npz").write_bytes(Path("in.npz").read_bytes().replace(b"a%%", b"a\xff\x9b"))
    code, out = on_terminal(tool, "info", "in.npz", **UTF8)
    assert code == 0
    assert rb"a\xff\x9b" in out


# --- progress ---


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for a clock that runs fast")
@pytest.mark.parametrize("columns", [3, 12, 30, 45, 60, 80, 200])
def test_the_bar_fits_the_terminal(tool: str, columns: int) -> None:
    library = preload("""
        #define _GNU_SOURCE
        #include <time.h>
        #include <unistd.h>
        #include <sys/syscall.h>
        int clock_gettime(clockid_t c, struct timespec *t)
        { static long s; syscall(SYS_clock_gettime, c, t); t->tv_sec += s += 1; return 0; }
    """)
    np.save("in.npy", weights(1200, 2048))
    code, out = on_terminal(
        tool, "encode", "in.npy", "q.npz", "--method", "absmax", columns=columns, LD_PRELOAD=library
    )
    assert code == 0
    bars = [line for line in re.split(rb"[\r\n]", out) if b"%" in line and b"a value" not in line]
    assert bars or columns < 6
    for bar in bars:
        assert len(bar.replace(b"\x1b[K", b"")) < columns, bar
    assert b"#" in out or columns < 45
    if columns != 45:  # where there is room if the numbers are short
        assert all((b"values/s" in bar) == (columns >= 60) for bar in bars)
    assert columns < 30 or all(re.search(rb"\d (s|min|h) left", bar) for bar in bars)


# --- pipes and descriptors ---


def test_a_reader_that_has_seen_enough(tool: str) -> None:
    np.savez("in.npz", **{f"tensor.with.a.long.name.{i:05}": np.zeros(1) for i in range(3000)})
    for command in (
        ["info", "in.npz"],
        ["info", "in.npz", "--json"],
        ["info"],
        ["compare", "in.npz", "in.npz"],
    ):
        with subprocess.Popen([tool, *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            child.stdout.readline()
            child.stdout.close()
            assert child.stderr.read() == b""
            assert child.wait() == 0, command


def test_output_that_cannot_be_written(tool: str) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no full device here")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([tool, "info"], stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 5
    assert b"No space" in done.stderr


def preload(code: str) -> str:
    Path("preload.c").write_text(code)
    subprocess.run(["cc", "-shared", "-fPIC", "preload.c", "-o", "preload.so", "-ldl"], check=True)
    return str(Path("preload.so").resolve())


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for a clock that runs fast")
@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_descriptors(tool: str, closed: str) -> None:
    library = preload("""
        #define _GNU_SOURCE
        #include <time.h>
        #include <unistd.h>
        #include <sys/syscall.h>
        int clock_gettime(clockid_t c, struct timespec *t)
        { static long s; syscall(SYS_clock_gettime, c, t); t->tv_sec += s += 6; return 0; }
    """)
    np.save("in.npy", weights(300, 4096))
    subprocess.run([tool, "encode", "in.npy", "q.npz", "--method", "absmax", "-q"], check=True)
    subprocess.run([tool, "decode", "q.npz", "good.npy", "-q"], check=True)
    for out in ("bad.npy", "bad.npz"):
        line = f'"{tool}" decode q.npz {out} {closed}'
        subprocess.run(["sh", "-c", line], env={**os.environ, "LD_PRELOAD": library}, check=True)
    assert Path("bad.npy").read_bytes() == Path("good.npy").read_bytes()
    with np.load("bad.npz") as members:
        np.testing.assert_array_equal(members["data"], np.load("good.npy"))


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler for a system without locks")
@pytest.mark.parametrize("number", ["ENOSYS", "ENOLCK", "EOPNOTSUPP", "EINVAL", "EBADF"])
def test_a_file_system_without_locks(tool: str, number: str) -> None:
    library = preload(f"""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <errno.h>
        #include <fcntl.h>
        #include <stdarg.h>
        int flock(int a, int b) {{ (void)a, (void)b; errno = {number}; return -1; }}
        int openat64(int d, const char *p, int f, ...)
        {{
            va_list l; va_start(l, f); int m = va_arg(l, int); va_end(l);
            if ((f & O_TMPFILE) == O_TMPFILE) {{ errno = EOPNOTSUPP; return -1; }}
            return ((int (*)(int, const char *, int, ...))dlsym(RTLD_NEXT, "openat64"))(d, p, f, m);
        }}
    """)
    np.save("in.npy", weights(4, 64))
    Path("out").mkdir()
    environment = {**os.environ, "LD_PRELOAD": library}
    command = [tool, "encode", "in.npy", "out/q.npz"]
    assert subprocess.run(command, env=environment).returncode == 0
    assert os.listdir("out") == ["q.npz"]
    assert subprocess.run(command, env=environment).returncode == 4
    assert os.listdir("out") == ["q.npz"]
    bad = weights(4, 64)
    bad[1, 1] = np.nan
    np.save("in.npy", bad)
    assert subprocess.run([*command, "--force"], env=environment).returncode == 4
    assert os.listdir("out") == ["q.npz"]
    if number != "ENOSYS":
        return
    np.save("in.npy", weights(9000, 2048))
    with subprocess.Popen([*command, "--force", "--method", "exact"], env=environment) as child:
        while len(os.listdir("out")) == 1:
            time.sleep(0.01)
        child.send_signal(signal.SIGTERM)
        assert child.wait() == 128 + signal.SIGTERM
    assert os.listdir("out") == ["q.npz"]


# --- what is encoded by default ---


def test_small_tensors_and_those_with_one_axis_stay(run: Run) -> None:
    parts = {
        "w": weights(8, 64),
        "norm": weights(512),
        "small": weights(5, 51),
        "least": weights(4, 64),
        "words": np.array(["a"]),
        "one": np.float32(1),
    }
    np.savez("in.npz", **parts)
    done = run("encode", "in.npz", "q.npz", "--json")
    actions = {t["name"]: t.get("reason", t["action"]) for t in json.loads(done.stdout)["tensors"]}
    assert actions == {
        "w": "encode",
        "norm": "one axis",
        "small": "small",
        "least": "encode",
        "words": "no floats",
        "one": "scalar",
    }
    assert "1 with one axis, 1 with fewer than 256 values" in done.stderr
    assert "1 tensor is of a type that cannot be quantized" in done.stderr
    assert run("encode", "in.npz", "q.npz", "--force", "-q").stderr == ""

    def encoded(*options: object) -> set[str]:
        result = run("encode", "in.npz", "q.npz", "--force", "--json", *options)
        return {t["name"] for t in json.loads(result.stdout)["tensors"] if t["action"] == "encode"}

    assert encoded("--min-size", 0) == {"w", "small", "least"}
    assert encoded("--min-size", 300) == {"w"}
    assert encoded("--include", "norm", "--include", "small") == {"norm", "small"}
    assert encoded("--include", "*") == {"w", "norm", "small", "least"}
    assert encoded("--exclude", "w") == {"least"}
    # The only floats of a file are what is meant, whatever their shape.
    for x in (weights(3, 5), weights(70), weights(3)):
        np.savez("in.npz", x=x, ids=np.arange(3))
        assert encoded() == {"x"}
        np.save("in.npy", x)
        run("encode", "in.npy", "npy.npz", "--force")
        assert "data.int4" in np.load("npy.npz").files
    assert encoded("--min-size", 4) == set()


# --- version and other kinds of files ---


def test_version_as_json(run: Run) -> None:
    version = run("--version").stdout.split()[1]
    for arguments in (["--version", "--json"], ["--json", "--version"], ["-V", "--json"]):
        assert json.loads(run(*arguments).stdout) == {"version": version}


@pytest.mark.parametrize(
    ("content", "name", "words"),
    [
        (b"\x08\x07\x12\x07pytorch", "a.onnx", ["ONNX", "quantize.onnx.quantize_model"]),
        (b"\x80\x02\x8a\x0a" + bytes(20), "a.pt", ["pickle", "weights_only"]),
        (b"\x80\x04\x95" + bytes(20), "renamed", ["pickle", "never read"]),
        (b"\x89HDF\r\n\x1a\n" + bytes(20), "a.h5", ["HDF5", "h5py"]),
        (b"something else", "a.txt", ["neither the header of a .npy nor"]),
    ],
)
def test_other_kinds_of_files(run: Run, content: bytes, name: str, words: list[str]) -> None:
    Path(name).write_bytes(content)
    for command in (
        ["info", name],
        ["encode", name, "q.npz"],
        ["decode", name, "q.npz"],
        ["compare", name, name],
    ):
        message = run(*command, code=3).stderr
        for word in words:
            assert word in message
        assert len(message) < 600


def test_a_checkpoint_of_pytorch(run: Run) -> None:
    with zipfile.ZipFile("model.pt", "w") as archive:
        archive.writestr("model/data.pkl", b"\x80\x02}.")
        archive.writestr("model/data/0", bytes(16))
    message = run("info", "model.pt", code=3).stderr
    assert "PyTorch" in message
    assert "weights_only" in message
