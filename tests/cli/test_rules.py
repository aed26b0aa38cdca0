"""What encode does with tensors by their names: rules, files of rules, and the default list.

The model of it is Python: fnmatch and re say which names a pattern matches, json and tomllib what a file of
rules holds, and the first match wins.
"""

import fnmatch
import json
import random
import re
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import quantize
import safetensors.numpy
from numpy.typing import NDArray

Array = NDArray[Any]
Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Rule(NamedTuple):
    match: str
    action: str

    def matches(self, name: str) -> bool:
        if self.match.startswith("re:"):
            return re.fullmatch(self.match[3:], name) is not None
        return fnmatch.fnmatchcase(name, self.match)


def first(rules: list[Rule], name: str) -> Rule | None:
    return next((rule for rule in rules if rule.matches(name)), None)


def options(rules: list[Rule]) -> list[str]:
    return [word for rule in rules for word in ("--rule", f"{rule.match}={rule.action}")]


def plan(run: Run, *words: object) -> dict[str, dict[str, Any]]:
    report = json.loads(run("encode", *words, "--dry-run", "--json").stdout)
    return {t["name"]: t for t in report["tensors"]}


# --- the first match wins ---

NAMES = ["a", "a.b", "a.weight", "mlp.0.up", "mlp.1.up", "mlp.1.down", "attn/q", "[x]", "embed", "b*c"]
PATTERNS = [
    "*",
    "a*",
    "*.up",
    "mlp.[01].*",
    "mlp.[!0].*",
    "?",
    "?.*",
    "attn/*",
    "?x]",
    "embed",
    "*b*",
    "[a-e]*",
]
EXPRESSIONS = [
    "re:.*",
    "re:a",
    "re:a|mlp",
    "re:(a|e).*",
    "re:mlp[.][0-9]+[.](up|down)",
    "re:[^.]*",
    "re:.{1,3}",
]
EXPRESSIONS += [
    r"re:.*\[x.*",
    "re:a.b",
    "re:^a$",
    "re:.+/q?",
    "re:[]x]+",
    r"re:b\*c",
    "re:m{1}lp.*",
    "re:(a(.b)?)|b.*",
]
ACTIONS = {
    "keep": None,
    "int4": ("int4", 32, "float16", "search", 1),
    "q4_k": ("q4_k", 32, "uint6", "search", 1),
    "uint4,group=16,method=minmax": ("uint4", 16, "float16", "minmax", 1),
    "nf4, scale=bf16 ,axis=0": ("nf4", 64, "bfloat16", "search", 0),
    "int4,group=row,scale=float32,axis=-2,method=exact": ("int4", "row", "float32", "exact", 0),
}


@pytest.mark.parametrize("seed", range(60))
def test_the_first_match_wins(run: Run, seed: int) -> None:
    rng = random.Random(seed)
    np.savez("w.npz", **{name: np.ones((16, 64), np.float32) for name in NAMES})
    actions = [*ACTIONS]
    choices = PATTERNS + EXPRESSIONS
    rules = [Rule(rng.choice(choices), rng.choice(actions)) for _ in range(rng.randint(1, 8))]
    if not all(any(rule.matches(name) for name in NAMES) for rule in rules):
        assert "no tensor has a name that" in run("encode", "w.npz", "q.npz", *options(rules), code=2).stderr
        rules = [rule for rule in rules if any(rule.matches(name) for name in NAMES)]
    found = plan(run, "w.npz", "q.npz", "--scheme", "dual4", *options(rules))
    for name in NAMES:
        rule, tensor = first(rules, name), found[name]
        assert tensor.get("rule") == (rule.match if rule else None)
        if rule and rule.action == "keep":
            assert (tensor["action"], tensor["reason"]) == ("copy", "by rule")
            continue
        words = ACTIONS[rule.action] if rule else ("dual4", 32, "float16", "search", 1)
        keys = ("scheme", "group_size", "scale_dtype", "method", "axis")
        if not rule:
            keys, words = ("scheme",), ("dual4",)
        assert tuple(tensor[key] for key in keys) == words


def test_expressions_match_as_those_of_python(run: Run) -> None:
    """One file of many names, one rule: what it matches, and that the whole name is meant."""
    rng = random.Random(7)
    names = sorted({"".join(rng.choices("ab.1", k=rng.randint(1, 6))) for _ in range(200)})
    np.savez("w.npz", **{name: np.zeros((8, 32), np.float32) for name in names})
    for _ in range(60):
        atoms = ["a", "b", "1", "[.]", ".", "[ab]", "[^a]", "(a|b1)", "(a|b1|)", "[0-9]"]
        text = "".join(
            rng.choice(atoms) + rng.choice(["", "", "*", "+", "?", "{1,2}", "{2}", "{0,3}"]) for _ in range(3)
        )
        text = rng.choice([text, f"{text}|{rng.choice(atoms)}+", f"({text})+"])
        wanted = {name for name in names if re.fullmatch(text, name)}
        if not wanted:
            assert "no tensor" in run("encode", "w.npz", "q.npz", "--rule", f"re:{text}=keep", code=2).stderr
            continue
        found = plan(run, "w.npz", "q.npz", "--rule", f"re:{text}=keep")
        assert {name for name, t in found.items() if t["action"] == "copy"} == wanted, text


# --- what comes of it ---


def test_all_schemes_in_one_file(run: Run) -> None:
    """Each tensor by a scheme of its own: what one file of a single scheme has, for every reader."""
    rng = np.random.default_rng(3)
    schemes = [scheme.name for scheme in quantize.schemes()]
    arrays = {f"w.{name}": rng.normal(size=(24, 512)).astype(np.float32) for name in schemes}
    np.savez("w.npz", **arrays)
    rules = [Rule(f"w.{name}", name) for name in schemes]
    random.Random(1).shuffle(rules)
    for end in ("npz", "safetensors"):
        done = run("encode", "w.npz", f"q.{end}", *options(rules))
        assert all(name in done.stderr for name in schemes)
        run("decode", f"q.{end}", f"back.{end}", "-q")
        run("info", f"q.{end}", "--check")
        found, back = quantize.load(f"q.{end}"), quantize.load(f"back.{end}")
        for name in schemes:
            np.savez("one.npz", x=arrays[f"w.{name}"])
            run("encode", "one.npz", "alone.npz", "--scheme", name, "-q", "-f")
            alone, q = quantize.load("alone.npz")["x"], found[f"w.{name}"]
            assert isinstance(alone, quantize.QuantizedArray)
            assert q == alone
            assert np.array_equal(back[f"w.{name}"], alone.dequantize())


def test_gguf_takes_what_it_can(run: Run) -> None:
    x = np.random.default_rng(1).normal(size=(8, 512)).astype(np.float32)
    np.savez("w.npz", a=x, b=x, c=x[:, :96])
    run("encode", "w.npz", "q.gguf", "--rule", "a=q4_k", "--rule", "b=iq4_nl", "--rule", "c=mxfp4", "-q")
    assert {name: q.scheme.name for name, q in quantize.load("q.gguf").items()} == {
        "a": "q4_k",
        "b": "iq4_nl",
        "c": "mxfp4",
    }
    done = run("encode", "w.npz", "r.gguf", "--rule", "b=nf4", code=2)
    assert "--rule 'b=nf4': tensor 'b': the layout gguf cannot have tensors of this scheme" in done.stderr
    assert not Path("r.gguf").exists()
    # A tensor that has the wrong shape for its scheme stays, and that is said.
    done = run("encode", "w.npz", "r.gguf", "--rule", "*=q4_k", "--json")
    reasons = {t["name"]: t.get("reason") for t in json.loads(done.stdout)["tensors"]}
    assert reasons == {"a": None, "b": None, "c": "no place"}
    assert "'c' for example" in done.stderr


def test_small_tensors_want_to_be_named(run: Run) -> None:
    x = np.ones((16, 64), np.float32)
    np.savez("w.npz", **{"m.w": x, "m.v": x, "m.bias": x[0], "m.long": x.ravel(), "m.ids": np.arange(4)})
    found = plan(run, "w.npz", "q.npz", "--rule", "m.*=uint4", "--rule", "m.bias=keep")
    assert {name: t.get("reason") for name, t in found.items()} == {
        "m.w": None,
        "m.v": None,
        "m.bias": "small",
        "m.long": "one axis",
        "m.ids": "no floats",
    }
    assert "rule" not in found["m.bias"]
    found = plan(run, "w.npz", "q.npz", "--rule", "m.bias=uint4", "--rule", "m.long=q4_0", "--rule", "*=keep")
    assert {name: t.get("scheme") for name, t in found.items() if t["action"] == "encode"} == {
        "m.bias": "uint4",
        "m.long": "q4_0",
    }
    # --include and --exclude say which tensors are looked at.
    found = plan(run, "w.npz", "q.npz", "--rule", "m.*=uint4", "--exclude", "m.w", "--exclude", "m.long")
    assert (found["m.w"]["reason"], found["m.v"]["scheme"]) == ("by name", "uint4")


def test_options_are_for_what_has_no_rule(run: Run) -> None:
    np.savez("w.npz", a=np.ones((16, 64), np.float32), b=np.ones((16, 64), np.float32))
    words = ("--rule", "a=nf4", "--scheme", "uint4", "--group-size", 16, "--method", "minmax", "--axis", 0)
    found = plan(run, "w.npz", "q.npz", *words, "--scale-dtype", "bfloat16")
    keys = ("scheme", "group_size", "scale_dtype", "method", "axis")
    assert [found["a"][key] for key in keys] == ["nf4", 64, "float16", "search", 0]
    assert [found["b"][key] for key in keys] == ["uint4", 16, "bfloat16", "minmax", 0]
    done = run("encode", "w.npz", "q.npz", *words)
    assert "of nf4 and uint4 (" in done.stderr
    assert "method minmax and search" in done.stderr


def test_weights_that_a_rule_wants(run: Run) -> None:
    x = np.random.default_rng(2).normal(size=(16, 64)).astype(np.float32)
    np.savez("w.npz", a=x, b=x)
    power = np.geomspace(0.01, 100, 64).astype(np.float32)
    np.savez("power.npz", a=power)
    run("encode", "w.npz", "q.npz", "--rule", "a=q4_0,weights", "--weights", "power.npz", "-q")
    found = quantize.load("q.npz")
    assert found["a"] == quantize.quantize_array(x, "q4_0", weights=power)
    assert found["b"] == quantize.quantize_array(x, "int4")
    done = run("encode", "w.npz", "r.npz", "--rule", "*=q4_0,weights", "--weights", "power.npz", code=2)
    assert "--rule '*=q4_0,weights': tensor 'b' has no weights" in done.stderr
    assert (
        "give a file of weights" in run("encode", "w.npz", "r.npz", "--rule", "*=q4_0,weights", code=2).stderr
    )


def test_config_names_all_schemes(run: Run) -> None:
    Path("model").mkdir()
    x = np.random.default_rng(2).normal(size=(16, 256)).astype(np.float32)
    safetensors.numpy.save_file({"a.weight": x, "b.weight": x}, "model/model.safetensors")
    Path("model/config.json").write_text('{"model_type": "llama"}')
    for words, wanted in (
        ((), {"scheme": "int4"}),
        (("--rule", "*=nf4"), {"scheme": "nf4"}),
        (("--rule", "b.*=q4_k"), {"schemes": ["int4", "q4_k"]}),
    ):
        run("encode", "model", "out", *words, "-q")
        config = json.loads(Path("out/config.json").read_text())
        assert config["quantization_config"] == {"quant_method": "quantize", "bits": 4, **wanted}
        run("decode", "out", "back", "-q")
        assert json.loads(Path("back/config.json").read_text()) == {"model_type": "llama"}
        for folder in ("out", "back"):
            for file in Path(folder).iterdir():
                file.unlink()


# --- messages ---


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("a", "write PATTERN=ACTION"),
        ("=keep", "write PATTERN=ACTION"),
        ("a=", "there is no scheme ''"),
        ("a=kep", "did you mean keep?"),
        ("a=keep,weights", "nothing can stand after keep"),
        ("a=q4k", "there is no scheme 'q4k'; did you mean q4_k?"),
        ("a=q4_k,grup=64", "there is no 'grup'; did you mean group?"),
        ("a=q4_k,gro\x1bup", "there is no 'gro\\x1bup'"),
        ("a=int4,zzzzzzz", "after the scheme stand group=N, scale=TYPE, method=NAME, axis=N, weights"),
        ("a=int4,", "there is no ''"),
        ("a=int4,group", "group needs a value"),
        ("a=int4,group=0", "group='0': the value must be a whole number of 1 or more, or row"),
        ("a=int4,group=99999999999999999999", "group='99999999999999999999'"),
        ("a=q4_k,group=3", "group=3 does not go with the scheme: q4_k"),
        ("a=int4,group=8,group=8", "group stands there twice"),
        ("a=int4,scale=bf", "the value must be f32, f16"),
        ("a=q4_k,scale=bf16", "scale=bf16 does not go with the scheme"),
        ("a=int4,method=exat", "did you mean exact?"),
        ("a=nf4,method=minmax", "method=minmax does not go with the scheme nf4; use absmax"),
        ("a=int4,axis=x", "axis='x': the value must be the number of an axis"),
        ("a=int4,axis=2", "tensor 'a' has 2 axes; use -2 to 1"),
        ("a=int4,weights=1", "weights takes no value"),
        ("b*=keep", "no tensor has a name that 'b*' matches"),
        ("re:A=keep", "no tensor has a name that 're:A' matches"),
        ("re:a(=keep", "a '(' without its ')', at character 3"),
        ("re:a)(=keep", "a ')' without its '(', at character 2"),
        ("re:a[b=keep", "a '[' without its ']', at character 2"),
        ("re:[[:foo:]]=keep", "no extended regular expression"),
        ("re:(a)\\1=keep", "at character 4"),
        ("re:a{1,99999}=keep", "repetitions of more than 1000 in all, at character 2"),
        ("re:((a{1,50}){1,50}){1,50}=keep", "repetitions of more than 1000"),
        ("re:" + "(" * 101 + "a" + ")" * 101 + "=keep", "too many '(' within each other, at character 101"),
        ("re:" + "a" * 1001 + "=keep", "more than 1000 characters"),
    ],
)
def test_messages(run: Run, rule: str, message: str) -> None:
    np.savez("w.npz", a=np.ones((8, 64), np.float32))
    done = run("encode", "w.npz", "q.npz", "--rule", rule, code=2)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert not Path("q.npz").exists()


def test_a_rule_that_decides_nothing_is_noted(run: Run) -> None:
    np.savez("w.npz", a=np.ones((8, 64), np.float32))
    done = run("encode", "w.npz", "q.npz", "--rule", "*=nf4", "--rule", "a=keep")
    assert "note: --rule 'a=keep' decides nothing" in done.stderr
    assert (
        "1 tensor stays as it is: --rule '*=keep'"
        in run("encode", "w.npz", "r.npz", "--rule", "*=keep").stderr
    )


# --- files of rules ---


def toml_string(rng: random.Random, text: str) -> str:
    if "'" not in text and rng.random() < 0.5:
        return f"'{text}'"
    escaped = json.dumps(text, ensure_ascii=rng.random() < 0.5)
    # JSON's pairs of surrogates are one number in TOML.
    pairs = re.compile(r"\\u(d[89ab]..)\\u(d[c-f]..)")
    text = pairs.sub(lambda m: json.loads(f'"{m[0]}"'), escaped)
    return "".join(c if escaped.isascii() is False or ord(c) < 0x10000 else f"\\U{ord(c):08x}" for c in text)


def toml_text(rng: random.Random, rules: list[Rule]) -> str:
    lines = []
    for rule in rules:
        members = [
            f"match={toml_string(rng, rule.match)}",
            f"\taction = {toml_string(rng, rule.action)} # why",
        ]
        rng.shuffle(members)
        lines += ["# a comment é", "  [[rule]]  # next", *members, "" * rng.randint(0, 1)]
    return rng.choice(["\n", "\r\n"]).join(lines)


def write_rules(rng: random.Random, path: str, rules: list[Rule]) -> None:
    if path.endswith(".toml"):
        text = toml_text(rng, rules)
        assert [Rule(**rule) for rule in tomllib.loads(text)["rule"]] == rules
    else:
        shape = {"rule": [rule._asdict() for rule in rules]}
        text = json.dumps(shape, indent=rng.choice([None, 0, 3]), ensure_ascii=rng.random() < 0.5)
    Path(path).write_bytes(text.encode())


@pytest.mark.parametrize("end", ["json", "toml"])
@pytest.mark.parametrize("seed", range(15))
def test_files_say_what_options_say(run: Run, seed: int, end: str) -> None:
    rng = random.Random(seed)
    names = [*NAMES, 'quo"te', "back\\slash", "é\u4e00\U0001f600", "tab"]
    np.savez("w.npz", **{name: np.ones((16, 64), np.float32) for name in names})
    rules = [
        Rule(rng.choice([*PATTERNS[:3], *names[-4:-3], "é*", "*", "re:.*\U0001f600"]), rng.choice([*ACTIONS]))
        for _ in range(5)
    ]
    cut = rng.randint(0, 4)
    write_rules(rng, f"r.{end}", rules[cut:])
    wanted = plan(run, "w.npz", "q.npz", *options(rules))
    assert plan(run, "w.npz", "q.npz", *options(rules[:cut]), "--rules", f"r.{end}") == wanted
    # Files and options stand in the order in which they are given.
    turned = plan(run, "w.npz", "q.npz", "--rules", f"r.{end}", *options(rules[:cut]))
    assert turned == plan(run, "w.npz", "q.npz", *options(rules[cut:] + rules[:cut]))


@pytest.mark.parametrize(
    ("name", "text", "code", "message"),
    [
        ("r.json", "", 3, "r.json: line 1, column 1: the file must be {"),
        ("r.json", '{"rules": []}', 3, "the file must be {"),
        ("r.json", '{"rule": []}', 3, "line 1, column 11: a rule is needed"),
        ("r.json", '{"rule": [\n {"match": "a"}]}', 3, "line 2: the rule has no action"),
        ("r.json", '{"rule": [{"action": "keep"}]}', 3, "line 1: the rule has no match"),
        ("r.json", '{"rule": [{"match": "a", "match": "a"}]}', 3, "twice"),
        ("r.json", '{"rule": [{"match": "a", "scheme": "a"}]}', 3, "two members, match and action"),
        ("r.json", '{"rule": [{"match": "a", "action": 4}]}', 3, "column 36: a string"),
        ("r.json", '{"rule": [{"match": "a", "action": "keep",}]}', 3, "a string"),
        ("r.json", '{"rule": [{"match": "a", "action": "keep"}],}', 3, "a '}' is needed"),
        ("r.json", '{"rule": [{"match": "a", "action": "keep"}]} {}', 3, "nothing may follow"),
        ("r.json", '{"rule": [{"match": "\\u0000", "action": "keep"}]}', 3, "no escape of a character"),
        ("r.json", '{"rule": [{"match": "\\ud800", "action": "keep"}]}', 3, "no escape of a character"),
        ("r.json", '{"rule": [{"match": "a\n", "action": "keep"}]}', 3, "does not end in its line"),
        ("r.json", b'{"rule": [{"match": "\xff", "action": "keep"}]}', 3, "column 22: this is not UTF-8"),
        (
            "r.json",
            '{"rule": [\n{"match": "a", "action": "kep"}]}',
            2,
            "r.json: line 2: there is no scheme 'kep'",
        ),
        ("r.json", '{"rule": [{"match": "", "action": "keep"}]}', 2, "match is empty"),
        ("r.json", '{"rule": [{"match": "re:(", "action": "keep"}]}', 2, "at character 2"),
        ("r.toml", 'match = "a"', 3, "[[rule]] is needed in a line before"),
        ("r.toml", "[rule]\n", 3, "line 1, column 1: the only table that is read here is [[rule]]"),
        ("r.toml", '[[rule]]\nmatch = "a"\n', 3, "line 1: the rule has no action"),
        ("r.toml", '[[rule]] match = "a"', 3, "line 1, column 10: the line must end here"),
        ("r.toml", '[[rule]]\nmatch = "a" action = "keep"', 3, "line 2, column 13: the line must end here"),
        ("r.toml", "[[rule]]\nmatch = 4\n", 3, "line 2, column 9: a string"),
        ("r.toml", '[[rule]]\nmatch = """a"""\n', 3, "strings of several lines are not read"),
        ("r.toml", "[[rule]]\na.b = 'a'\n", 3, "only a name and '='"),
        ("r.toml", "[[rule]]\n\"match\" = 'a'\n", 3, "only [[rule]], match ="),
        ("r.toml", "[[rule]]\nmatch = 'a\n", 3, "does not end in its line"),
        (
            "r.toml",
            "\n\n[[rule]]\nmatch='b'\naction='keep'\n",
            2,
            "r.toml: line 3: no tensor has a name that 'b'",
        ),
        ("r.yaml", "", 2, "must end in .json or .toml"),
        ("r.json", b"[" * (1 << 20) + b" ", 6, "at most 1 MiB"),
    ],
)
def test_messages_of_files(run: Run, name: str, text: str | bytes, code: int, message: str) -> None:
    np.savez("w.npz", a=np.ones((8, 64), np.float32))
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())
    done = run("encode", "w.npz", "q.npz", "--rules", name, code=code)
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_file_of_rules_that_is_not_there(run: Run) -> None:
    np.savez("w.npz", a=np.ones((8, 64), np.float32))
    assert "no.json: No such file" in run("encode", "w.npz", "q.npz", "--rules", "no.json", code=5).stderr
    Path("d.json").mkdir()
    assert "d.json: Is a directory" in run("encode", "w.npz", "q.npz", "--rules", "d.json", code=5).stderr


def read_strictly(path: str, data: bytes) -> list[Rule] | None:
    """The rules, if another reader takes the file and it has the documented shape."""
    try:
        text = data.decode()
        document = tomllib.loads(text) if path.endswith(".toml") else json.loads(text, parse_constant=int)
        rules = document["rule"]
        if (
            set(document) != {"rule"}
            or not isinstance(rules, list)
            or any(set(r) != {"match", "action"} for r in rules)
        ):
            return None
        return (
            [Rule(**r) for r in rules] if all(isinstance(v, str) for r in rules for v in r.values()) else None
        )
    except (ValueError, TypeError, KeyError):
        return None


@pytest.mark.parametrize("end", ["json", "toml"])
@pytest.mark.parametrize("seed", range(20))
def test_broken_files(run: Run, tool: str, seed: int, end: str) -> None:
    """Random changes of bytes: never a crash, and what is accepted is what Python's readers find in it."""
    rng = random.Random(f"{seed}{end}")
    np.savez("w.npz", **{name: np.ones((16, 64), np.float32) for name in NAMES})
    rules = [Rule("*", "int4"), Rule("a", "keep"), Rule('re:.*"?', "nf4")]
    path = f"r.{end}"
    write_rules(rng, path, rules)
    good = Path(path).read_bytes()
    for _ in range(25):
        data = bytearray(good)
        for _ in range(rng.randint(1, 3)):
            at = rng.randrange(len(data))
            kind = rng.randrange(4)
            if kind == 0:
                data[at] = rng.randrange(256)
            elif kind == 1:
                del data[at : at + rng.randint(1, 9)]
            elif kind == 2:
                data[at:at] = rng.choice(
                    [b'"', b"'", b"\\", b"[", b"#", b"\n", b"\0", b"\\u00e9", b",", b" ", b"\xc3"]
                )
            else:
                data[at:at] = data[rng.randrange(len(data)) :][: rng.randint(1, 20)]
        Path(path).write_bytes(data)
        done = subprocess.run(
            [tool, "encode", "w.npz", "q.npz", "--dry-run", "--json", "--rules", path],
            capture_output=True,
            text=True,
        )
        assert done.returncode in (0, 2, 3), (bytes(data), done.stderr)
        if done.returncode == 3:
            assert re.search(r": line \d+", done.stderr)
        if done.returncode != 0:
            continue
        found = read_strictly(path, bytes(data))
        assert found is not None, bytes(data)
        for t in json.loads(done.stdout)["tensors"]:
            rule = first(found, t["name"])
            assert t.get("rule") == (rule.match if rule else None)


# --- the default list ---

# Names of real models: what stays, and what is encoded. They are those of Llama, Qwen2 and Qwen2-VL, Mixtral,
# DeepSeek, gpt-oss, Llava, GPT-2, GPT-NeoX, T5, BERT, ChatGLM and Mamba, and of llama.cpp for the same.
STAYS = {
    "embedding": """model.embed_tokens.weight transformer.wte.weight transformer.wpe.weight token_embd.weight
        embeddings.word_embeddings.weight embeddings.position_embeddings.weight
        embeddings.token_type_embeddings.weight bert.embeddings.word_embeddings.weight
        gpt_neox.embed_in.weight embed_out.weight shared.weight position_embd.weight
        token_types.weight wte.weight tok_embeddings.weight encoder.embed_positions.weight
        per_layer_token_embd.weight model.language_model.embed_tokens.weight
        backbone.embedding.weight
        encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight
        enc.blk.0.attn_rel_b.weight""",
    "output head": """lm_head.weight output.weight
        model.lm_head.weight transformer.output_layer.weight score.weight
        classifier.weight classifier.dense.weight cls.predictions.decoder.weight cls.weight""",
    "norm": """model.layers.0.input_layernorm.weight
        model.norm.weight blk.0.attn_norm.weight output_norm.weight
        h.0.ln_1.weight transformer.ln_f.weight model.layers.0.self_attn.q_norm.weight
        encoder.layer.0.output.LayerNorm.weight blocks.0.norm1.weight""",
    "bias": """model.layers.0.self_attn.q_proj.bias model.layers.0.mlp.experts.gate_up_proj_bias
        blk.0.exp_probs_b.bias model.layers.0.mlp.gate.e_score_correction_bias""",
    "router": """model.layers.0.mlp.gate.weight model.layers.0.block_sparse_moe.gate.weight
        model.layers.0.mlp.router.weight model.layers.0.mlp.shared_expert_gate.weight
        blk.0.ffn_gate_inp.weight blk.0.ffn_gate_inp_shexp.weight
        model.layers.0.feed_forward.router.weight
        model.layers.0.block_sparse_moe.router.layer.weight""",
    "convolution of a state space": "model.layers.0.mixer.conv1d.weight blk.0.ssm_conv1d.weight",
    "vision or audio": """vision_tower.vision_model.encoder.layers.0.self_attn.k_proj.weight
        visual.blocks.0.attn.qkv.weight
        model.visual.blocks.0.mlp.fc1.weight visual.merger.mlp.0.weight
        model.vision_tower.transformer.layers.0.attention.q_proj.weight
        audio_tower.layers.0.fc1.weight vision_model.transformer.layers.0.mlp.fc1.weight""",
    "projector": "multi_modal_projector.linear_1.weight model.mm_projector.0.weight",
}
ENCODED = """model.layers.0.self_attn.q_proj.weight model.layers.0.mlp.gate_proj.weight
        model.layers.0.mlp.up_proj.weight blk.0.ffn_gate.weight blk.0.ffn_gate_exps.weight
        blk.0.attn_q.weight blk.0.attn_output.weight
        model.layers.0.block_sparse_moe.experts.0.w1.weight model.layers.0.mlp.experts.gate_up_proj
        model.layers.0.mlp.shared_expert.gate_proj.weight h.0.attn.c_attn.weight
        h.0.mlp.c_proj.weight gpt_neox.layers.0.attention.query_key_value.weight
        encoder.block.0.layer.0.SelfAttention.q.weight encoder.layer.0.attention.self.query.weight
        encoder.layer.0.attention.output.dense.weight pooler.dense.weight
        transformer.encoder.layers.0.self_attention.dense.weight
        backbone.layers.0.mixer.in_proj.weight language_model.model.layers.0.mlp.down_proj.weight
        blk.0.ssm_in.weight model.layers.0.self_attn.kv_b_proj.weight
        embedding_model.layers.0.mlp.up_proj.weight normalizer.proj.weight
        model.layers.0.feed_forward.w1.weight"""


def test_default_list(run: Run) -> None:
    x = np.ones((8, 32), np.float32)
    names = {name: what for what, text in STAYS.items() for name in text.split()}
    safetensors.numpy.save_file(dict.fromkeys([*names, *ENCODED.split()], x), "m.safetensors")
    found = plan(run, "m.safetensors", "q.npz")
    assert {name: t["default"] for name, t in found.items() if t["action"] == "copy"} == names
    assert {t["reason"] for t in found.values() if t["action"] == "copy"} == {"default rule"}
    # The same from the table for people, and in words.
    done = run("encode", "m.safetensors", "q.npz", "--dry-run")
    for line in done.stdout.splitlines()[1:]:
        name, *cells = line.split()
        assert line.endswith(names[name]) if name in names else cells[-2] == "4.5"
    for what, text in STAYS.items():
        assert re.search(
            rf"{len(text.split())} tensors stay as they are, '\S+' for example: {what}\n", done.stderr
        )
    assert "--no-default-rules all" in done.stderr
    # All are encoded without the list, and those that are named.
    assert all(
        t["action"] == "encode" for t in plan(run, "m.safetensors", "q.npz", "--no-default-rules").values()
    )
    found = plan(run, "m.safetensors", "q.npz", "--include", "*embed*")
    assert {t["action"] for name, t in found.items() if "embed" in name} == {"encode"}
    found = plan(
        run, "m.safetensors", "q.npz", "--rule", "lm_head.weight=q4_0", "--rule", "*embed_tokens*=nf4"
    )
    assert found["lm_head.weight"]["scheme"] == "q4_0"
    assert found["model.embed_tokens.weight"]["scheme"] == "nf4"
    assert found["output.weight"]["reason"] == "default rule"


def test_a_gate_without_experts_is_a_layer(run: Run) -> None:
    x = np.ones((8, 32), np.float32)
    safetensors.numpy.save_file({"l.0.mlp.gate.weight": x, "l.0.mlp.up.weight": x}, "m.safetensors")
    assert all(t["action"] == "encode" for t in plan(run, "m.safetensors", "q.npz").values())


def test_plain_arrays_are_no_model(run: Run) -> None:
    """Word vectors are what is meant, whatever they are called, in any kind of file."""
    x = np.ones((16, 64), np.float32)
    plain = [
        {"embeddings": x},
        {"embeddings": x, "queries": x},
        {"embed": x, "up": x, "norm": x},
        {"embed.weight": x},
        {"embed.weight": x, "ids.weight": np.arange(9), "bias.weight": x[0]},
    ]
    for i, arrays in enumerate(plain):
        np.savez(f"w{i}.npz", **arrays)
        safetensors.numpy.save_file(dict(arrays), f"w{i}.safetensors")
        for end in ("npz", "safetensors"):
            found = plan(run, f"w{i}.{end}", "q.npz")
            assert not [name for name, t in found.items() if t.get("reason") == "default rule"]
    np.savez("m.npz", **{"embed.weight": x, "l.0.weight": x})
    assert plan(run, "m.npz", "q.npz")["embed.weight"]["reason"] == "default rule"
    # What is quantized already counts too: a model remains one.
    run("encode", "m.npz", "m4.npz", "-q")
    assert plan(run, "m4.npz", "q.npz")["embed.weight"]["reason"] == "default rule"
    np.savez("m.npz", **{"embed.weight": x, "l.0.weight": x, "l.1.weight": x})
    run("encode", "m.npz", "m5.npz", "--exclude", "l.1.*", "-q")
    again = plan(run, "m5.npz", "q.npz")
    assert {name: t.get("reason") for name, t in again.items()} == {
        "embed.weight": "default rule",
        "l.0.weight": "quantized",
        "l.1.weight": None,
    }
