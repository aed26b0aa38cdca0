"""quantize verify: sound files pass, damage is found, and the original is compared as compare does."""

import json
import struct
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import quantize
import safetensors.numpy
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]
RNG = np.random.default_rng(11)


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def verified(run: Run, *arguments: object, code: int = 0) -> Any:
    return json.loads(run("verify", *arguments, "--json", code=code).stdout)


@pytest.mark.parametrize("end", ["npz", "safetensors", "gguf"])
@pytest.mark.parametrize("scheme", [scheme.name for scheme in quantize.schemes()])
def test_what_was_written_is_sound(run: Run, scheme: Any, end: str) -> None:
    arrays: dict[str, Any] = {"w": RNG.standard_normal((6, 512)), "n": np.arange(5), "b": np.zeros(3)}
    try:
        quantize.save(f"a.{end}", {**arrays, "w": quantize.quantize_array(arrays["w"], scheme)})
    except ValueError:
        assert end == "gguf"
        return
    found = verified(run, f"a.{end}")
    assert (found["container"], found["quantized"], found["values"]) == (end, 1, 6 * 512 + 8)
    assert found["bytes"] == Path(f"a.{end}").stat().st_size
    assert {t["name"]: (t["quantized"], t["nonfinite"]) for t in found["tensors"]} == {
        name: (name == "w", 0) for name in arrays
    }
    out = run("verify", f"a.{end}")
    assert out.stdout.startswith(f"{end}: sound, 3 tensors, 1 of them quantized; 3080 values in ")
    assert out.stderr == ""


SHAPES: list[tuple[int, ...]] = [(), (0,), (3, 0), (1,), (7, 3), (2, 3, 4), (300, 5000)]


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "bfloat16"])
def test_floats_that_are_not_finite_are_counted(run: Run, kind: str) -> None:
    """They are no damage: masks have them."""
    arrays = {}
    for i, shape in enumerate(SHAPES):
        odd = RNG.choice([np.nan, np.inf, -np.inf], shape)
        x = np.asarray(np.where(RNG.random(shape) < 0.1, odd, RNG.standard_normal(shape)))
        arrays[f"x{i}"] = x.astype(ml_dtypes.bfloat16 if kind == "bfloat16" else kind)
    safetensors.numpy.save_file(arrays, "a.safetensors")
    wanted = {name: int((~np.isfinite(x.astype(np.float64))).sum()) for name, x in arrays.items()}
    assert max(wanted.values()) > 100_000
    assert {t["name"]: t["nonfinite"] for t in verified(run, "a.safetensors")["tensors"]} == wanted
    said = run("verify", "a.safetensors").stderr
    for name, count in wanted.items():
        assert (f"'{name}' is not quantized and holds {count} NaN or infinite" in said) == (count != 0)


def test_integers_are_never_taken_for_floats(run: Run) -> None:
    bits = np.full(9, -1)
    arrays = {f"x{n}": bits.astype(f"i{n}") for n in (1, 2, 4, 8)}
    np.savez("a.npz", **arrays, words=np.array(["\uffff" * 3]))  # type: ignore[arg-type]
    assert [t["nonfinite"] for t in verified(run, "a.npz")["tensors"]] == [0] * 5


def test_damaged_data_is_found(run: Run) -> None:
    """In an archive, whose members have checksums, wherever in them it is."""
    quantize.save("a.npz", {"q": quantize.quantize_array(RNG.standard_normal((4, 64))), "x": np.arange(30.0)})
    good = Path("a.npz").read_bytes()
    with zipfile.ZipFile("a.npz") as archive:
        places = []
        for member in archive.infolist():
            name, extra = struct.unpack_from("<HH", good, member.header_offset + 26)
            start = member.header_offset + 30 + name + extra
            assert member.compress_size == member.file_size
            places += [*range(start, start + member.file_size, 41), start + member.file_size - 1]
    assert len(places) > 20
    for at in places:
        Path("b.npz").write_bytes(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
        run("verify", "b.npz", code=3)
    for length in (0, 1, len(good) // 2, len(good) - 1):
        Path("b.npz").write_bytes(good[:length])
        run("verify", "b.npz", code=3)


@pytest.mark.parametrize("axis", [0, 1])
def test_a_scale_that_is_not_finite_is_found(run: Run, axis: int) -> None:
    """Without checksums, by what it means."""
    q = quantize.quantize_array(np.full((64, 64), 7.0), method="absmax7", axis=axis)
    quantize.save("a.safetensors", {"q": q})
    data = bytearray(Path("a.safetensors").read_bytes())
    one, infinite = np.float16(1).tobytes(), np.float16(np.inf).tobytes()
    at = data.rindex(one * 128) + 2 * 5  # the sixth scale: of group 1 of row 2
    data[at : at + 2] = infinite
    Path("a.safetensors").write_bytes(data)
    place = "[2, 32]" if axis == 1 else "[32, 2]"
    assert place in run("verify", "a.safetensors", code=3).stderr
    assert verified(run, "a.safetensors", code=3)["exit_code"] == 3


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_finite_scale_that_decodes_to_infinity_is_found(run: Run, axis: int) -> None:
    """Which no look at the scale alone can tell, and `info --check` does not."""
    x = RNG.standard_normal((4, 6, 64)).astype(np.float32)
    x = np.moveaxis(x, 2, axis)
    x[tuple(np.add(np.zeros(3, int), [1, 2, 3]))] = 100
    q = quantize.quantize_array(x, scale_dtype="float32", axis=axis, group_size=64, method="absmax")
    scales = q.scales.copy()
    where = np.unravel_index(np.abs(q.scales).argmax(), scales.shape)
    scales[where] = np.float32(3e38) * np.sign(scales[where])
    quantize.save(
        "a.npz", {"q": quantize.QuantizedArray(q.codes, scales, scheme=q.scheme, shape=q.shape, axis=axis)}
    )
    loaded = quantize.load("a.npz")["q"]
    assert isinstance(loaded, quantize.QuantizedArray)
    with np.errstate(over="ignore"):
        bad = np.argwhere(~np.isfinite(loaded.dequantize()))
    assert len(bad) >= 1
    message = run("verify", "a.npz", code=3).stderr
    assert "decodes to NaN or infinity" in message
    named = json.loads(message[message.index(" at [") + 4 : message.index("]") + 1])
    assert named in bad.tolist()
    run("info", "a.npz", "--check")


def test_the_original_is_compared_as_compare_does(run: Run) -> None:
    x = {"w": RNG.standard_normal((8, 96)), "m": RNG.standard_normal((4, 256)), "n": np.arange(4)}
    np.savez("x.npz", **x)  # type: ignore[arg-type]
    run("encode", "x.npz", "q.npz", "--quiet")
    found, wanted = (
        json.loads(run(*words, "--json").stdout)
        for words in (("verify", "q.npz", "x.npz"), ("compare", "x.npz", "q.npz"))
    )
    assert (found.pop("command"), wanted.pop("command")) == ("verify", "compare")
    assert found == wanted
    assert run("verify", "q.npz", "x.npz").stdout == run("compare", "x.npz", "q.npz").stdout
    least = min(t["stats"]["sqnr_db"] for t in found["tensors"] if t["name"] != "n")
    run("verify", "q.npz", "x.npz", "--min-sqnr", least - 0.01)
    assert verified(run, "q.npz", "x.npz", "--min-sqnr", least + 0.01, code=1)["different"] is True
    np.savez("y.npz", w=x["w"], o=x["n"])
    lone = {t["name"]: t["verdict"] for t in verified(run, "q.npz", "y.npz", code=1)["tensors"]}
    assert lone == {"w": None, "o": "only in the original", "m": "only in the file", "n": "only in the file"}


def test_a_model_in_a_folder(run: Run) -> None:
    Path("model").mkdir()
    names = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    for i, name in enumerate(names):
        safetensors.numpy.save_file({f"w{i}": RNG.standard_normal((4, 64))}, Path("model", name))
    index = {"weight_map": {f"w{i}": name for i, name in enumerate(names)}}
    Path("model/model.safetensors.index.json").write_text(json.dumps(index))
    run("encode", "model", "q", "--max-shard-size", 200, "--min-size", 0, "--quiet")
    assert verified(run, "q")["quantized"] == 2
    run("verify", "q", "model", "--min-sqnr", 15)


def test_names_act_on_nothing(run: Run) -> None:
    np.savez("a.npz", **{"\x1b[31m\u202e": np.array([np.nan])})  # type: ignore[arg-type]
    assert r"\x1b[31m\u{202e}" in run("verify", "a.npz").stderr


def test_wrong_uses(run: Run) -> None:
    np.save("x.npy", np.zeros((2, 64)))
    assert "needs the original" in run("verify", "x.npy", "--min-sqnr", 3, code=2).stderr
    run("verify", code=2)
    run("verify", "x.npy", "x.npy", "x.npy", code=2)
    run("verify", "missing.npz", code=5)
    run("verify", "x.npy", "missing.npz", code=5)


@pytest.mark.parametrize("shape", [(3000, 1024), (2, 6_000_000)])
def test_large_tensors_are_verified_in_pieces(run: Run, shape: tuple[int, int]) -> None:
    """Values of the last of several blocks of rows, or of columns, are looked at, too."""
    q = quantize.quantize_array(np.ones(shape, np.float32), scale_dtype="float32", method="absmax7")
    scales, codes = q.scales.copy(), q.codes.copy()
    scales[-1, -1] = 3e38
    codes[-1, -1] = 0x77
    broken = quantize.QuantizedArray(codes, scales, scheme=q.scheme, shape=q.shape, axis=1)
    assert not np.isfinite(broken.dequantize()[-1, -32:]).any()
    quantize.save("a.npz", {"q": broken})
    message = run("verify", "a.npz", "--threads", 2, code=3).stderr
    assert f"the value at [{shape[0] - 1}, {shape[1] - 32}] decodes" in message
