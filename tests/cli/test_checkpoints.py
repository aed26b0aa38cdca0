"""Models in several files: what is one model to the user, and what is refused."""

import hashlib
import json
import os
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import safetensors.numpy
from numpy.typing import NDArray
from quantize import _files

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Array = NDArray[Any]
INDEX = "model.safetensors.index.json"
TYPES = (np.float32, np.float16, np.float64, np.int8, np.uint8, np.int32, np.bool_)


def shard_name(i: int, count: int) -> str:
    return f"model-{i + 1:05d}-of-{count:05d}.safetensors"


def write_model(folder: Path, shards: list[dict[str, Array]], **metadata: Any) -> dict[str, str]:
    """Shards as the format's own package writes them, and the index as transformers does. Returns the map."""
    folder.mkdir(exist_ok=True)
    places, size = {}, 0
    for i, arrays in enumerate(shards):
        name = shard_name(i, len(shards))
        safetensors.numpy.save_file(arrays, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(arrays, name)
        size += sum(array.nbytes for array in arrays.values())
    text = {"metadata": {"total_size": size, **metadata}, "weight_map": dict(sorted(places.items()))}
    (folder / INDEX).write_text(json.dumps(text, indent=2) + "\n")
    return places


def made_up(shards: int, seed: int) -> list[dict[str, Array]]:
    """Odd sizes, empty tensors, scalars, all types; some shards hold a single tensor."""
    rng = np.random.default_rng(seed)
    result: list[dict[str, Array]] = []
    for i in range(shards):
        arrays = {}
        for j in range(int(rng.integers(1, 6))):
            shape = tuple(int(n) for n in rng.integers(0, 9, rng.integers(0, 4)))
            dtype = TYPES[int(rng.integers(len(TYPES)))]
            arrays[f"layers.{i}.{j}.é" if j == 3 else f"layers.{i}.{j}"] = rng.integers(0, 2, shape).astype(
                dtype
            )
        result.append(arrays)
    return result


def listed(run: Run, path: object, *options: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run("info", path, "--json", *options).stdout)
    return found


# --- What is read -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shards", [1, 2, 64])
def test_shards_are_one_file(run: Run, tmp_path: Path, shards: int) -> None:
    model = made_up(shards, shards)
    write_model(tmp_path / "m", model)
    wanted = {name: array for arrays in model for name, array in arrays.items()}
    for path in ("m", f"m/{INDEX}", "./m/", tmp_path / "m"):
        found = listed(run, path, "--check")
        assert found["container"] == "safetensors"
        assert found["bytes"] == sum(f.stat().st_size for f in (tmp_path / "m").iterdir())
        assert [t["name"] for t in found["tensors"]] == [
            str(key) for i in range(shards) for key in file_order(tmp_path / "m" / shard_name(i, shards))
        ]
        assert {t["name"]: t["shape"] for t in found["tensors"]} == {n: [*a.shape] for n, a in wanted.items()}
        assert "note" not in found
    run("encode", "m", "one.safetensors", "--exclude", "*", "--quiet")
    back = safetensors.numpy.load_file(tmp_path / "one.safetensors")
    assert back.keys() == wanted.keys()
    for name, array in wanted.items():
        assert back[name].dtype == array.dtype
        assert np.array_equal(back[name], array)


def file_order(path: Path) -> list[str]:
    data = path.read_bytes()
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    return [name for name in header if name != "__metadata__"]


def test_few_descriptors(run: Run, tool: str, tmp_path: Path) -> None:
    """Two hundred shards, and fourteen descriptors in all."""
    write_model(tmp_path / "m", [{f"{i}": np.full((3, 32), i, np.float32)} for i in range(200)])
    limited = f"ulimit -n 14 && exec {tool} encode m o.npz --min-size 0 --quiet"
    subprocess.run(["sh", "-c", limited], cwd=tmp_path, check=True)
    run("compare", "m", "o.npz", "--min-sqnr", "40")


def test_links_as_in_caches(run: Run, tmp_path: Path) -> None:
    """Hugging Face's cache links to files under their hashes; the folder of the links counts."""
    for depth in ("", "sub", "sub/sub"):
        cache = tmp_path / f"cache{len(depth)}"
        snapshot = cache / "snapshots" / "0123abc" / depth
        snapshot.mkdir(parents=True)
        write_model(cache / "blobs", made_up(3, 9))
        for file in sorted((cache / "blobs").iterdir()):
            blob = hashlib.sha256(file.name.encode()).hexdigest()[: 40 if file.suffix == ".json" else 64]
            file.rename(cache / "blobs" / blob)
            (snapshot / file.name).symlink_to(os.path.relpath(cache / "blobs" / blob, snapshot))
        folder, index = (listed(run, path, "--check") for path in (snapshot, snapshot / INDEX))
        assert folder["tensors"] == index["tensors"] != []


SECRET = "a key of somebody"
HASH = "0123456789abcdef" * 4


def linked(target: str) -> Callable[[Path], None]:
    """Makes the folder's tokenizer.json a link, and puts what it could lead to around the folder."""

    def prepare(folder: Path) -> None:
        around = folder.parent
        for place in (around / "secret", folder / "in" / "x"):
            place.parent.mkdir(exist_ok=True)
            place.write_text(SECRET)
        for blobs in (around / "blobs", around.parent / "blobs"):
            (blobs / "deep").mkdir(parents=True)
            for name in (HASH, "key", "abc", f"deep/{HASH}"):
                (blobs / name).write_text(SECRET)
        (folder / "out").symlink_to("..")
        (folder / "chain").symlink_to("../secret")
        (folder / "tokenizer.json").symlink_to(target.replace("HERE", str(folder)))

    return prepare


@pytest.mark.parametrize(
    "target",
    [
        "../secret",
        "HERE/../secret",
        "HERE/config.json",
        "/etc/hostname",
        "out/secret",
        "./out/secret",
        "in/../../secret",
        "chain",
        "../blobs/key",
        f"../blobs/{HASH}",
        "../../blobs/key",
        "../../blobs/abc",
        f"../../blobs/deep/{HASH}",
        f"../../blobs/../secret/{HASH}",
        f"x/../../blobs/{HASH}",
        "..",
        ".",
        "in",
        "nowhere",
        "tokenizer.json",
    ],
)
def test_links_that_lead_out_are_not_followed(run: Run, tmp_path: Path, target: str) -> None:
    folder = tmp_path / "s" / "m"
    folder.parent.mkdir()
    write_model(folder, made_up(3, 9))
    (folder / "config.json").write_text("{}")
    linked(target)(folder)
    done = run("encode", folder, "q")
    assert "tokenizer.json is left out" in done.stderr
    assert not (tmp_path / "q" / "tokenizer.json").exists()
    found = [
        file for file in (tmp_path / "q").rglob("*") if file.is_file() and SECRET in file.read_text("latin-1")
    ]
    assert found == [tmp_path / "q/in/x"]  # which is the folder's own


@pytest.mark.parametrize(
    "target", ["config.json", "./config.json", "in/x", "in//x", "link", f"../../blobs/{HASH}"]
)
def test_links_that_stay_are_followed(run: Run, tmp_path: Path, target: str) -> None:
    folder = tmp_path / "s" / "m"
    folder.parent.mkdir()
    write_model(folder, made_up(3, 9))
    (folder / "config.json").write_text("{}")
    (folder / "link").symlink_to("in/x")
    linked(target)(folder)
    run("encode", folder, "q")
    copied = tmp_path / "q" / "tokenizer.json"
    assert not copied.is_symlink()
    assert copied.read_text() == (folder / "tokenizer.json").read_text()


@pytest.mark.parametrize("what", ["whole", "index", "shard", "gguf", "split"])
def test_models_behind_links_that_lead_out(run: Run, tmp_path: Path, what: str) -> None:
    """The folder is the user's word, a link in it is not; a link that the user names is followed."""
    write_model(tmp_path / "far", made_up(3, 9))
    (tmp_path / "m").mkdir()
    if what in ("gguf", "split"):
        split = what == "split"
        for i in range(2):
            name = f"m-{i + 1:05d}-of-00002.gguf" if split else "m.gguf"
            keys = {
                "split.no": ("uint16", i),
                "split.count": ("uint16", 2),
                "split.tensors.count": ("int32", 2),
            }
            arrays = {f"t{i}": np.ones((4, 32), np.float32)}
            plain_gguf(tmp_path / "far" / name, arrays, keys if split else {})
            link = tmp_path / "m" / name
            link.unlink(missing_ok=True)
            if split and i == 0:
                (tmp_path / "far" / name).rename(link)
            else:
                link.symlink_to(f"../far/{name}")
    else:
        for file in sorted((tmp_path / "far").iterdir()):
            if what == "shard" and file.name != shard_name(1, 3):
                shutil.copy(file, tmp_path / "m")
            else:
                (tmp_path / "m" / file.name).symlink_to(f"../far/{file.name}")
        if what == "whole":
            for file in (tmp_path / "m").iterdir():
                file.unlink()
            (tmp_path / "m" / "model.safetensors").symlink_to(f"../far/{shard_name(0, 3)}")
    done = run("encode", "m", "q.safetensors", code=3)
    assert "leads out of its folder" in done.stderr
    assert not (tmp_path / "q.safetensors").exists()
    if what == "whole":
        run("encode", "m/model.safetensors", "q.safetensors")


def plain_gguf(path: Path, arrays: dict[str, Array], keys: dict[str, tuple[str, int]]) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    for key, (kind, value) in keys.items():
        getattr(writer, f"add_{kind}")(key, value)
    for name, array in arrays.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def split_gguf(folder: Path, count: int, **changed: int) -> dict[str, Array]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(count)
    everything: dict[str, Array] = {}
    for i in range(count):
        arrays = {f"blk.{i}.{j}.weight": rng.normal(size=(j + 1, 32)).astype(np.float32) for j in range(3)}
        keys = {
            "split.no": ("uint16", i),
            "split.count": ("uint16", count),
            "split.tensors.count": ("int32", 3 * count),
        }
        for key, value in changed.items():
            keys["split." + key.removesuffix(f"_{i}")] = ("uint16", value)
        keys = {key: value for key, value in keys.items() if "_" not in key}
        plain_gguf(folder / f"w-{i + 1:05d}-of-{count:05d}.gguf", arrays, keys)
        everything |= arrays
    return everything


@pytest.mark.parametrize("count", [2, 7])
def test_split_gguf_is_one_file(run: Run, tmp_path: Path, count: int) -> None:
    arrays = split_gguf(tmp_path / "m", count)
    for path in ("m", f"m/w-00001-of-{count:05d}.gguf"):
        found = listed(run, path, "--check")
        assert found["container"] == "gguf"
        assert {t["name"]: t["shape"] for t in found["tensors"]} == {n: [*a.shape] for n, a in arrays.items()}
    run("encode", "m", "o.safetensors", "--exclude", "*", "--quiet")
    back = safetensors.numpy.load_file(tmp_path / "o.safetensors")
    assert all(np.array_equal(back[name], array) for name, array in arrays.items())


def test_broken_split_gguf(run: Run, tmp_path: Path) -> None:
    def refused(says: str) -> None:
        assert says in run("info", "m", code=3).stderr

    split_gguf(tmp_path / "m", 3)
    says = run("info", "m/w-00002-of-00003.gguf", code=3).stderr
    assert "is part 2 of 3 of a model; open the first one, which ends in -00001-of-00003.gguf" in says
    (tmp_path / "m/w-00003-of-00003.gguf").unlink()
    refused("part 'w-00003-of-00003.gguf': is missing in the folder")
    split_gguf(tmp_path / "m", 3, no_1=2)
    refused("says that it is part 3 of 3, its name that it is part 2 of 3")
    split_gguf(tmp_path / "m", 3, count_2=4)
    refused("says that it is part 3 of 4, its name that it is part 3 of 3")
    split_gguf(tmp_path / "m", 3, **{"tensors.count_0": 8})
    refused("split.tensors.count: counts 8 tensors, but the parts have 9")
    split_gguf(tmp_path / "m", 3, no_0=3)
    refused("split.no: does not go with split.count")
    split_gguf(tmp_path / "m", 3)
    (tmp_path / "m/w-00001-of-00003.gguf").rename(tmp_path / "m/first.gguf")
    refused("is part 1 of 3 of a model, but its name does not end in -00001-of-00003.gguf")
    (tmp_path / "m/first.gguf").unlink()
    refused("is a folder with parts of a model, but without the first of them")
    first = split_gguf(tmp_path / "m", 2)
    plain_gguf(
        tmp_path / "m/w-00002-of-00002.gguf",
        {"blk.0.0.weight": first["blk.0.0.weight"]},
        {"split.no": ("uint16", 1), "split.count": ("uint16", 2)},
    )
    for part in (tmp_path / "m").glob("*-00003.gguf"):
        part.unlink()
    refused("tensor 'blk.0.0.weight': occurs twice")


def test_which_file_of_a_folder(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    arrays = {"w": np.ones((2, 32), np.float32)}

    def save(name: str) -> None:
        safetensors.numpy.save_file(arrays, folder / name)

    def refused(says: str) -> None:
        assert says in run("info", "m", code=3).stderr

    refused("is a folder without a model.safetensors.index.json, .safetensors or .gguf file; name a file")
    (folder / "pytorch_model.bin").write_bytes(b"")
    (folder / "training_args.bin").write_bytes(b"")
    refused(".gguf file; pytorch_model.bin in it is a pickle, as PyTorch's")
    (folder / "config.json").write_text("{}")
    save("a.safetensors")
    assert listed(run, "m")["file"] == "m"
    save(".hidden.safetensors")
    listed(run, "m")
    save("b.safetensors")
    refused("is a folder with 2 .safetensors files, of which any could be meant; name one")
    save("model.safetensors")
    listed(run, "m")
    plain_gguf(folder / "x.gguf", arrays, {})
    listed(run, "m")
    write_model(folder, [arrays])
    refused("is a folder with both model.safetensors.index.json and model.safetensors")
    (folder / "model.safetensors").unlink()
    assert listed(run, "m")["container"] == "safetensors"
    (folder / INDEX).unlink()
    for name in ("a.safetensors", "b.safetensors", "x.gguf"):
        (folder / name).unlink()
    refused("is a folder with parts of a model, but without a .safetensors.index.json that lists them")
    (folder / "other.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard_name(0, 1)}}))
    listed(run, "m")


# --- Hostile indexes ----------------------------------------------------------------------------------------


A, B = shard_name(0, 2), shard_name(1, 2)
GOOD = {"a": A, "b": B}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """Two shards with one tensor each."""
    folder = tmp_path / "m"
    write_model(folder, [{"a": np.ones((2, 3), np.float32)}, {"b": np.arange(5, dtype=np.int8)}])
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / B).write_bytes((folder / B).read_bytes())
    (folder / "sub").mkdir()
    (folder / "sub" / B).write_bytes((folder / B).read_bytes())
    return folder


def test_every_prefix_and_bit(run: Run, tool: str, model: Path, pytestconfig: pytest.Config) -> None:
    """Refused, or the same tensors: bits of white space, of the total size or its name change no more."""
    short = pytestconfig.getoption("--cases") == "short"
    good = (model / INDEX).read_bytes()
    wanted = listed(run, "m")["tensors"]
    rng = random.Random(1)
    bits = rng.sample(range(8 * len(good)), 150) if short else range(8 * len(good))
    broken = [good[:n] for n in range(len(good) - 1)]
    for bit in bits:
        flipped = bytearray(good)
        flipped[bit // 8] ^= 1 << bit % 8
        broken.append(bytes(flipped))
    accepted = 0
    for text in broken:
        (model / INDEX).write_bytes(text)
        done = subprocess.run(
            [tool, "info", "m", "--json"], cwd=model.parent, capture_output=True, check=False
        )
        assert done.returncode in (0, 3), text
        if done.returncode == 0:
            assert json.loads(done.stdout)["tensors"] == wanted, text
            accepted += 1
    assert 0 < accepted < len(broken) // 2


def test_total_size_is_noted(run: Run, model: Path) -> None:
    for size, says in ((1, "is 1, but the tensors have 29 bytes"), (29.0, "no"), ("x", "no"), (10**30, "no")):
        text = {"metadata": {"total_size": size}, "weight_map": GOOD}
        (model / INDEX).write_text(json.dumps(text))
        note = listed(run, "m")["note"]
        assert note.startswith("total_size in the index is")
        assert says in note or note.endswith("is not a whole number, and is ignored")
    (model / INDEX).write_text(json.dumps({"weight_map": GOOD, "tool": {"more": [1, 2]}}))
    assert "note" not in listed(run, "m")


def test_change_while_open(run: Run, model: Path) -> None:
    """Parts that are closed meanwhile are compared with what they were."""
    file = _files.open_file(os.fsencode(model / INDEX))
    with (model / B).open("ab") as shard:
        shard.write(b"x")
    with pytest.raises(_files.Failure, match="changed while it was read"):
        file.check_unchanged()


def test_output_is_no_shard(run: Run, model: Path) -> None:
    """An input is never replaced, whatever name leads to it."""
    (model.parent / "link.safetensors").hardlink_to(model / B)
    done = run("encode", "m", "link.safetensors", "--force", code=4)
    assert "is the same file as the input" in done.stderr


def test_limit_can_be_raised(run: Run, tmp_path: Path) -> None:
    write_model(tmp_path / "m", [{f"{i}": np.zeros(0, np.int8) for i in range(2000)}])
    done = run("info", "m", "--max-table", "100k", code=6)
    assert done.stderr.rstrip().endswith("; --max-table raises it")
    run("info", "m", "--max-table", "10M")
