"""The files that the fuzzer begins with are those that make_seeds.py makes."""

from pathlib import Path

import make_seeds


def test_seeds_are_made_by_the_script(tmp_path: Path) -> None:
    make_seeds.make(tmp_path)
    kept = Path(__file__).parent / "seeds"
    made = {str(path.relative_to(tmp_path)): path.read_bytes() for path in tmp_path.glob("*/*")}
    committed = {str(path.relative_to(kept)): path.read_bytes() for path in kept.glob("*/*")}
    assert sorted(made) == sorted(committed)
    # What is compressed differs from one version of zlib to the next.
    plain = [name for name in made if name not in ("npz/deflated.npz", "npz/odd.npz", "npz/records.npz")]
    assert [name for name in plain if made[name] != committed[name]] == []
