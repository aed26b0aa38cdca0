#!/usr/bin/env python3
"""Feeds the readers what libFuzzer makes of a few good files, or the encoder what it makes up.

What breaks them is left in build/fuzz/.

.venv/bin/python scripts/fuzz.py [SECONDS [files | encode | models]]
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import quantize
import safetensors.numpy

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests/cli"))
import layouts_oracle as oracle  # noqa: E402

FOLDER = ROOT / "build/fuzz"
CORPUS = FOLDER / "corpus"
MODELS = FOLDER / "models"
TARGETS = {
    "files": "tests/files/fuzz_open.c",
    "encode": "tests/fuzz/fuzz_encode.c",
    "models": "tests/fuzz/fuzz_models.c",
}


def write_seeds() -> None:
    """Files of every kind that the readers know, small so that each byte gets its turn."""
    CORPUS.mkdir(parents=True, exist_ok=True)
    x = np.linspace(-1, 1, 60, dtype=np.float32).reshape(3, 20)
    for name, values in {
        "f4": x,
        "f2": x.astype(np.float16),
        "big": x.astype(">f8"),
        "i8": np.arange(5),
        "text": np.array(["a", "bc"]),
        "dates": np.arange(3).astype("M8[25s]"),
        "records": np.zeros(2, [("a", [("x", "<f4", (2, 3)), ("y", "S2")]), ("b", "<c8")]),
    }.items():
        np.save(CORPUS / f"{name}.npy", values)
        np.savez_compressed(CORPUS / f"{name}.npz", a=values, b=values[:1])
    own = dataclasses.replace(quantize.schemes()[0], name="table", codes="table", table=tuple(range(-5, 11)))
    for scheme in (*quantize.schemes(), own):
        packed = quantize.quantize_array(x, scheme, group_size=8)
        quantize.save(CORPUS / f"packed-{scheme.name}.npz", {"w": packed})
    rng = np.random.default_rng(0)
    for kind, (_, size) in gguf.GGML_QUANT_SIZES.items():
        writer = gguf.GGUFWriter(CORPUS / f"blocks-{kind.name}.gguf", "test")
        writer.add_tensor("w", rng.integers(0, 128, (2, size), np.uint8), raw_dtype=kind)
        writer.add_tensor("w.scale", np.ones(1, np.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def write_layouts() -> None:
    """Quantized tensors as other programs keep them, with their config.json in the metadata."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 16, (8, 32)).astype(np.uint8)
    half = oracle.stored(np.ones((8, 1), np.float16))
    kinds = {
        "integers": oracle.Contents(codes, 32, half, np.full((8, 1), 7, np.uint8)),
        "affine": oracle.Contents(codes, 32, half, offsets=half),
        "mxfp4": oracle.Contents(codes, 32, oracle.stored(np.full((8, 1), 127, np.uint8)), table=oracle.E2M1),
        "nvfp4": oracle.Contents(
            codes,
            16,
            oracle.stored(np.full((8, 2), 0x38, np.uint8), "F8_E4M3"),
            factor=np.float32(0.5),
            table=oracle.E2M1,
        ),
        "nf4": oracle.Contents(codes, 32, oracle.stored(np.ones((8, 1), np.float32)), table=oracle.NF4),
    }
    layouts = {
        "integers": ["gptq", "gptq_v2", "awq", "compressed-tensors"],
        "affine": ["mlx"],
        "mxfp4": ["compressed-tensors", "gpt-oss", "mlx"],
        "nvfp4": ["compressed-tensors", "modelopt", "mlx"],
        "nf4": ["bitsandbytes"],
    }
    for kind, names in layouts.items():
        for name in names:
            tensors, said = oracle.WRITERS[name](kinds[kind])
            metadata = {"quantization_config": json.dumps(said)} if said else None
            oracle.save(CORPUS / f"{name}-{kind}.safetensors", tensors, metadata)


def write_models() -> None:
    """Headers of models. The fuzzer makes the rest of them out of these."""
    MODELS.mkdir(parents=True, exist_ok=True)
    x = np.linspace(-1, 1, 8, dtype=np.float32)
    for number, metadata in enumerate((None, {"format": "pt", "\u20ac\n": '"\\"'})):
        path = MODELS / f"{number}.safetensors"
        safetensors.numpy.save_file({"w": x, "\u00e4": x[:2].astype(np.float16), "e": x[:0]}, path, metadata)
    writer = gguf.GGUFWriter(MODELS / "w.gguf", "test")
    writer.add_bool("a.bool", True)
    writer.add_array("a.strings", ["", "b"])
    writer.add_float64("a.number", 1.5)
    writer.add_tensor("w", x)
    writer.add_tensor("q", np.zeros((2, 18), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q4_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    (MODELS / "text.json").write_text('{"a":[1,-2.5e+3,true,null],"\\ud83d\\ude00\\n":{"b":"c"}}')


def build(target: str) -> None:
    sources = [ROOT / TARGETS[target]]
    for pattern in ("files/*.c", "files/*/*.c", "src/*.c", "src/*/*.c", "src/*/*/*.c"):
        sources += sorted(ROOT.glob(pattern))
    sanitizers = "-fsanitize=fuzzer,address,undefined,float-cast-overflow"
    flags = ["-g", "-O1", "-ffp-contract=off", sanitizers, "-DQZ_LIBFUZZER", "-D_GNU_SOURCE"]
    includes = ["-I", ROOT / "include", "-I", ROOT / "files"]
    libraries = ["-lz", "-lm", "-pthread"]
    subprocess.run(["clang", *flags, *includes, *sources, *libraries, "-o", FOLDER / "fuzz"], check=True)


def main() -> int:
    seconds = sys.argv[1] if len(sys.argv) > 1 else "120"
    target = sys.argv[2] if len(sys.argv) > 2 else "files"
    if target not in TARGETS:
        sys.exit(f"unknown: {target}; there are: {' '.join(TARGETS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    if target == "files":
        write_seeds()
        write_layouts()
    if target == "models":
        write_models()
    build(target)
    corpus = {"files": [CORPUS], "models": [MODELS]}.get(target, [])
    return subprocess.call(
        [FOLDER / "fuzz", f"-max_total_time={seconds}", "-max_len=4096", "-print_final_stats=1", *corpus],
        cwd=FOLDER,
    )


if __name__ == "__main__":
    sys.exit(main())
