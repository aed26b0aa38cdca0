"""Makes tests/fuzz/seeds: small good files of every container and every layout, a folder for each.

The fuzzer begins with them (scripts/fuzz.py), and files/test_damaged.c changes each of their bits. A folder
with a model is one file here, a .bundle, in which each of its files begins with a line "=== NAME".

    .venv/bin/python tests/fuzz/make_seeds.py [FOLDER]
"""

import dataclasses
import functools
import io
import json
import shutil
import struct
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import quantize
import safetensors.numpy

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "cli"))
import layouts_oracle as oracle  # noqa: E402
from layouts_oracle import Contents, Stored, stored  # noqa: E402

UNREAD = ("IQ1", "IQ2", "IQ3", "Q1_0", "Q8_1", "Q8_K")
Q4_0 = gguf.GGMLQuantizationType.Q4_0


def bundle(files: dict[str, bytes]) -> bytes:
    return b"".join(b"=== " + name.encode() + b"\n" + content for name, content in files.items())


def matrix(rows: int = 3, cols: int = 20) -> Any:
    return np.linspace(-1, 1, rows * cols, dtype=np.float32).reshape(rows, cols)


# --- Containers ---------------------------------------------------------------------------------------------


def arrays() -> dict[str, Any]:
    x = matrix(2, 5)
    return {
        "f4": x,
        "f2": x.astype(np.float16),
        "big": x.astype(">f8"),
        "columns": np.asfortranarray(x),
        "i8": np.arange(5),
        "scalar": np.array(True),
        "none": x[:0],
        "text": np.array(["a", "bc"]),
        "dates": np.arange(3).astype("M8[25s]"),
        "records": np.zeros(2, [("a", [("x", "<f4", (2, 3)), ("y", "S2")]), ("b", "<c8")]),
    }


def make_npy(folder: Path) -> None:
    for name, values in arrays().items():
        np.save(folder / f"{name}.npy", values)
    for version in ((2, 0), (3, 0)):
        with (folder / f"version-{version[0]}.npy").open("wb") as out:
            np.lib.format.write_array(out, matrix(1, 2), version)


def archive(members: dict[str, bytes], method: int) -> bytes:
    """With the same bytes at any time and place."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as made:
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(name), content, method)
    return out.getvalue()


def make_npz(folder: Path) -> None:
    def saved(values: Any) -> bytes:
        out = io.BytesIO()
        np.save(out, values)
        return out.getvalue()

    some = {f"{name}.npy": saved(arrays()[name]) for name in ("f4", "i8")}
    (folder / "stored.npz").write_bytes(archive(some, zipfile.ZIP_STORED))
    (folder / "deflated.npz").write_bytes(archive(some, zipfile.ZIP_DEFLATED))
    (folder / "records.npz").write_bytes(archive({"r.npy": saved(arrays()["records"])}, zipfile.ZIP_DEFLATED))
    (folder / "beside.npz").write_bytes(
        archive({"a/b.npy": saved(np.arange(2)), "x.txt": b"x"}, zipfile.ZIP_STORED)
    )
    out = io.BytesIO()
    with (
        zipfile.ZipFile(out, "w") as made,
        made.open(zipfile.ZipInfo("a.npy"), "w", force_zip64=True) as member,
    ):
        member.write(saved(np.arange(2)))
    (folder / "large.npz").write_bytes(out.getvalue())
    compressed = {"e.npy": saved(np.arange(0)), "a.npy": saved(arrays()["f4"])}
    (folder / "odd.npz").write_bytes(with_long_end(stream({"x" * 1100: b"x", **compressed})))


class Stream(io.RawIOBase):
    """A file whose writer cannot go back, so that sizes and checksums follow the data."""

    def __init__(self) -> None:
        self.content = bytearray()

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self.content += data
        return len(data)


def stream(members: dict[str, bytes]) -> bytes:
    out = Stream()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as made:
        for name, content in members.items():
            made.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return bytes(out.content)


def with_long_end(content: bytes) -> bytes:
    """The same archive with an end record of zip64 before the one that it has."""
    end = content[-22:]
    count, size, start = struct.unpack("<HII", end[10:20])
    record = struct.pack("<IQHHIIQQQQ", 0x06064B50, 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<IIQI", 0x07064B50, 0, len(content) - len(end), 1)
    return content[: -len(end)] + record + locator + end


def make_safetensors(folder: Path) -> None:
    x = np.linspace(-1, 1, 8, dtype=np.float32)
    for number, metadata in enumerate((None, {"\u20ac\n": '"\\"'})):  # of two, the order would be any
        tensors: dict[str, Any] = {"w": x, "\u00e4": x[:2].astype(np.float16), "e": x[:0]}
        safetensors.numpy.save_file(tensors, folder / f"{number}.safetensors", metadata)
    narrow = {
        "a": ("F8_E4M3", (3,), b"123"),
        "b": ("F4", (2, 4), b"1234"),
        "c": ("C64", (1,), bytes(8)),
        "d": ("BOOL", (1,), b"1"),
    }
    oracle.save(folder / "narrow.safetensors", narrow)
    header: dict[str, Any] = {"__metadata__": {f"k{i}": "v" for i in range(20)}}
    for i in reversed(range(3)):  # the last one comes first
        header[f"w{i}"] = {"dtype": "U8", "shape": [2], "data_offsets": [2 * i, 2 * i + 2]}
    text = json.dumps(header).encode()
    (folder / "order.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"123456")


def write_gguf(
    path: Path, tensors: dict[str, Any], keys: dict[str, Any], alignment: int | None = None
) -> None:
    """Tensors are arrays, or a type of blocks with their bytes."""
    writer = gguf.GGUFWriter(path, "t")
    if alignment is not None:
        writer.add_custom_alignment(alignment)
    for key, value in keys.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        else:
            kind = {bool: "BOOL", float: "FLOAT64", str: "STRING", int: "UINT16"}[type(value)]
            writer.add_key_value(key, value, gguf.GGUFValueType[kind])
    for name, tensor in tensors.items():
        kind, values = tensor if isinstance(tensor, tuple) else (None, tensor)
        writer.add_tensor(name, values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_gguf(folder: Path) -> None:
    x = matrix(2, 4)
    keys = {
        "a.bool": True,
        "a.number": 1.5,
        "a.text": "\u20ac",
        "a.strings": ["", "b"],
        "a.numbers": [1, -2],
        "a.truths": [True, False],
    }
    write_gguf(folder / "keys.gguf", {"w": x}, keys)
    write_gguf(
        folder / "types.gguf",
        {
            "a": x,
            "b": x.astype(np.float16),
            "c": np.arange(3, dtype=np.int8),
            "q": (Q4_0, np.zeros((2, 18), np.uint8)),
        },
        {},
        8,
    )


def model_files(names: tuple[str, str]) -> dict[str, bytes]:
    return {name: safetensors.numpy.save({f"w{i}": matrix(1, 2 + i)}) for i, name in enumerate(names)}


def make_folders(folder: Path) -> None:
    names = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    index = {"metadata": {"total_size": 20}, "weight_map": {f"w{i}": name for i, name in enumerate(names)}}
    files = {"model.safetensors.index.json": json.dumps(index).encode(), **model_files(names)}
    (folder / "index.bundle").write_bytes(bundle(files))
    with tempfile.TemporaryDirectory() as place:
        parts = {}
        for i in range(2):
            path = Path(place) / f"w-{i + 1:05d}-of-00002.gguf"
            keys = {"split.no": i, "split.count": 2, **({"split.tensors.count": 2} if i == 0 else {})}
            write_gguf(path, {f"w{i}": matrix(1, 2)}, keys)
            parts[path.name] = path.read_bytes()
    (folder / "split.bundle").write_bytes(bundle(parts))


# --- Layouts ------------------------------------------------------------------------------------------------


def make_own(folder: Path) -> None:
    own = dataclasses.replace(quantize.schemes()[0], name="table", codes="table", table=tuple(range(-5, 11)))
    for scheme in (*quantize.schemes(), own):
        packed = quantize.quantize_array(
            matrix(2, 20), scheme, group_size=8 if scheme.group_size is None else None
        )
        quantize.save(folder / f"{scheme.name}.npz", {"w": packed})
    for name in ("int4", "q4_k"):
        packed = quantize.quantize_array(matrix(2, 20), name)
        quantize.save(folder / f"{name}.npz", {"w": packed})


def make_blocks(folder: Path) -> None:
    """A row of one or two blocks of every type of ggml that is read."""
    rng = np.random.default_rng(0)
    for kind, (_, size) in gguf.GGML_QUANT_SIZES.items():
        if kind.name.startswith(UNREAD):
            continue
        blocks = kind, rng.integers(0, 60, (1, size * (1 if size > 64 else 2)), np.uint8)
        write_gguf(folder / f"{kind.name.lower()}.gguf", {"w.weight": blocks}, {}, 8)
    half = gguf.GGMLQuantizationType.NVFP4, rng.integers(0, 60, (1, 36), np.uint8)
    write_gguf(folder / "nvfp4-scale.gguf", {"w.weight": half, "w.scale": np.ones(1, np.float32)}, {}, 8)


def contents() -> dict[str, Contents]:
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (8, 32)).astype(np.uint8)
    half = stored(np.linspace(0.5, 2, 8, dtype=np.float16).reshape(8, 1))
    scale, byte = stored(np.full((8, 2), 0x38, np.uint8), "F8_E4M3"), stored(np.full((8, 1), 127, np.uint8))
    single = stored(np.linspace(0.5, 2, 8, dtype=np.float32).reshape(8, 1))
    nested: dict[str, Stored] = {
        "m.weight.absmax": stored(np.arange(8, dtype=np.uint8)),
        "m.weight.nested_absmax": stored(np.array([0.25], np.float32)),
        "m.weight.nested_quant_map": stored(np.linspace(-1, 1, 256, dtype=np.float32)),
        "offset": stored(np.array([1.5], np.float32)),
    }
    return {
        "zeros": Contents(codes, 32, half, np.full((8, 1), 7, np.uint8)),
        "symmetric": Contents(codes, 32, half),
        "single": Contents(codes, 32, single, np.full((8, 1), 7, np.uint8)),
        "affine": Contents(codes, 32, half, offsets=half),
        "float-zeros": Contents(codes, 32, half, float_zeros=half),
        "mxfp4": Contents(codes, 32, byte, table=oracle.E2M1),
        "nvfp4": Contents(codes, 16, scale, factor=np.float32(0.5), table=oracle.E2M1),
        "nf4": Contents(codes, 32, single, table=oracle.NF4),
        "fp4": Contents(codes, 32, single, table=oracle.FP4_BNB),
        "nested": Contents(codes, 32, single, table=oracle.NF4, extra=nested),
    }


LAYOUTS = {
    "gptq": ("zeros", "symmetric", "single"),
    "gptq_v2": ("zeros", "symmetric"),
    "awq": ("zeros", "symmetric"),
    "compressed-tensors": ("zeros", "symmetric", "single", "mxfp4", "nvfp4"),
    "modelopt": ("nvfp4",),
    "gpt-oss": ("mxfp4",),
    "mlx": ("affine", "mxfp4", "nvfp4"),
    "bitsandbytes": ("nf4", "fp4", "nested"),
    "hqq": ("float-zeros",),
    "quanto": ("affine",),
}


def make_torchao(folder: Path) -> None:
    """What is decoded as it is read is no quantized tensor, and lies with the files that have none."""
    for kind in ("zeros", "symmetric", "affine", "mxfp4", "nvfp4"):
        tensors, metadata = oracle.write_torchao(contents()[kind])
        place = folder if kind != "affine" else folder.parent / "safetensors"
        oracle.save(place / f"{kind}.safetensors", tensors, metadata)


def make_layout(folder: Path, layout: str) -> None:
    """What config.json says stands in the metadata of the file, where it can, and beside it."""
    for kind in LAYOUTS[layout]:
        tensors, said = oracle.WRITERS[layout](contents()[kind])
        path = folder / f"{kind}.safetensors"
        oracle.save(path, tensors, {"quantization_config": json.dumps(said)} if said else None)
    if said:
        oracle.save(folder / "model.safetensors", tensors)
        config = json.dumps({"a": [1], "quantization_config": said}).encode()
        files = {"config.json": config, "model.safetensors": (folder / "model.safetensors").read_bytes()}
        (folder / "beside.bundle").write_bytes(bundle(files))
        (folder / "model.safetensors").unlink()


def make(folder: Path) -> None:
    makers = {
        "npy": make_npy,
        "npz": make_npz,
        "safetensors": make_safetensors,
        "gguf": make_gguf,
        "folders": make_folders,
        "own": make_own,
        "torchao": make_torchao,
        "blocks": make_blocks,
        **{name: functools.partial(make_layout, layout=name) for name in LAYOUTS},
    }
    for name, maker in makers.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        maker(folder / name)


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "seeds"
    if target.exists():
        shutil.rmtree(target)
    make(target)
