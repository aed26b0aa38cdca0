"""Models become quantized models: :func:`quantize.onnx.quantize_model` and :func:`quantize.onnx.convert`."""

from __future__ import annotations

import dataclasses
import operator
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

import onnx

from ..comparison import compare
from ..encode import quantize_array
from ..errors import DtypeError, FormatError
from ..packed_array import QuantizedArray
from ..scheme import Scheme, find
from .edit import Edit
from .found import input_of
from .made import Made, check_form, make_bnb4, make_nbits, make_qdq, refusal
from .output import Output
from .report import Report, Row
from .tensors import FLOAT_NAMES, Source, element_count
from .versions import import_microsoft, raise_ir, raise_opset
from .weights import Left, Target, targets

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence
    from typing import SupportsIndex

    from ..inputs import AnyArray
    from ..names import Method, SchemeName

    Form = Literal["qdq", "matmulnbits", "matmulbnb4"]

_MIN_SIZE = 4096


class Choice:
    """Which weights a caller wants, and in which scheme."""

    def __init__(
        self,
        form: str,
        scheme: str | Scheme | None,
        rules: Mapping[str, str | Scheme | None],
        include: str | Sequence[str] | None,
        exclude: str | Sequence[str],
        min_size: int,
        group_size: SupportsIndex | None,
    ) -> None:
        check_form(form)
        self.form = form
        self._rules = {**rules, "*": scheme or ("nf4" if form == "matmulbnb4" else "int4")}
        self._include = None if include is None else _patterns(include)
        self._exclude = _patterns(exclude)
        self._min_size, self._group_size = min_size, group_size
        for wanted in self._rules.values():
            if wanted is not None:
                self._checked(find(wanted, group_size=group_size)[0], "float32")

    def _checked(self, scheme: Scheme, dtype: str) -> Scheme:
        scheme = dataclasses.replace(scheme, scale_dtype=dtype) if not scheme.super_size else scheme
        why = refusal(self.form, scheme)
        if why:
            raise ValueError(why)
        return scheme

    def is_named(self, name: str) -> bool:
        """Whether the caller names these weights, so that they must not be left."""
        return self._include is not None and _matches(name, self._include)

    def why_not(self, name: str, count: int) -> str | None:
        """Why weights are left that could be quantized."""
        if self._include is not None:
            if not _matches(name, self._include):
                return "not included"
        elif count < self._min_size:
            return f"fewer than {self._min_size} values (min_size)"
        if _matches(name, self._exclude):
            return "excluded"
        return None if self._wanted(name) is not None else "a rule leaves them"

    def _wanted(self, name: str) -> str | Scheme | None:
        return next(wanted for pattern, wanted in self._rules.items() if fnmatchcase(name, pattern))

    def scheme(self, name: str, data_type: int) -> Scheme:
        """The scheme of weights that are quantized; scales have the type of the weights."""
        wanted = self._wanted(name)
        assert wanted is not None
        return self._checked(find(wanted, group_size=self._group_size)[0], FLOAT_NAMES[data_type])


def _patterns(given: str | Sequence[str]) -> list[str]:
    return [given] if isinstance(given, str) else list(given)


def _matches(name: str, patterns: list[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def quantize_model(
    src: str | os.PathLike[str],
    dst: str | os.PathLike[str],
    scheme: SchemeName | Scheme | None = None,
    *,
    form: Form = "qdq",
    group_size: SupportsIndex | None = None,
    method: Method | None = None,
    include: str | Sequence[str] | None = None,
    exclude: str | Sequence[str] = (),
    rules: Mapping[str, SchemeName | Scheme | None] | None = None,
    arrays: Mapping[str, QuantizedArray] | None = None,
    min_size: SupportsIndex = _MIN_SIZE,
    accuracy_level: SupportsIndex | None = None,
    external: bool | None = None,
    threads: SupportsIndex | None = None,
) -> Report:
    """Quantize the weights of the matrix products of a model to 4 bits.

    Weights are initializers of float32, float16 or bfloat16 that are a factor of a MatMul or Gemm, in the
    graph or in those inside of its nodes. Groups run along the axis that the product sums over. All else in
    the model stays as it is.

    Parameters
    ----------
    src : path-like
        The model.
    dst : path-like
        The model that is written, which may be `src` itself. It appears when it is complete, or not at all; a
        file of that name is replaced.
    scheme : str or Scheme, optional
        "int4" (the default) or one like it with form "qdq" and "matmulnbits", or "uint4" with 4-bit zeros;
        with "matmulnbits" also "uint4_float"; "nf4" (the default) and "fp4_bnb" with "matmulbnb4". Scales
        have the type of the weights.
    form : {"qdq", "matmulnbits", "matmulbnb4"}
        "qdq": INT4 or UINT4 tensors that a DequantizeLinear node decodes, which every program with opset 21
        can run. "matmulnbits", "matmulbnb4": nodes of ONNX Runtime in place of MatMul and Gemm.
    group_size : int, optional
        Neighbours that share a scale, instead of the scheme's number; -1 for all, with form "qdq". The others
        have powers of two from 16 on.
    method : str, optional
        How scales are found, as of :func:`quantize.quantize_array`.
    include, exclude : str or sequence of str
        Patterns of names of initializers, as of `fnmatch`: only those, and not those. Weights that `include`
        names and that cannot be quantized are an error; otherwise they are left, and the report says why.
    rules : mapping, optional
        Patterns, and the scheme of the weights whose names match, or None to leave them; the first match
        counts.
    arrays : mapping, optional
        Weights that are quantized already, by the names of initializers: those of :func:`quantize.gptq`, for
        example, or of a file that :func:`quantize.load` read. They have the shape of the initializer or, with
        two axes, the other way round, groups along the axis that the product sums over, and scales of the
        type of the initializer. These and no others are taken from there; all of them must be used.
    min_size : int
        Weights with fewer values are left, unless `include` names them.
    accuracy_level : int, optional
        The attribute of this name of MatMulNBits: in what type ONNX Runtime may compute (4: int8).
    external : bool, optional
        Whether large tensors lie in a file of their own beside `dst`; by default if those of `src` do, or if
        it is larger than 1 GiB.
    threads : int, optional
        How many threads share the work.

    Returns
    -------
    Report
        A row for each weight; ``str()`` makes a table of it.

    Raises
    ------
    ValueError
        When a form does not have the scheme, a weight that is named cannot be quantized, or the opset cannot
        be raised to the 21 that form "qdq" needs.
    FormatError
        When the file is no ONNX model, or a tensor breaks the format.

    Examples
    --------
    >>> import quantize.onnx
    >>> report = quantize.onnx.quantize_model("model.onnx", "model4.onnx", "uint4")  # doctest: +SKIP
    >>> print(report)  # doctest: +SKIP
    """
    choice = Choice(form, scheme, rules or {}, include, exclude, operator.index(min_size), group_size)
    options = {"method": method, "threads": threads, "arrays": dict(arrays or {})}
    level = None if accuracy_level is None else operator.index(accuracy_level)
    if level is not None and (form != "matmulnbits" or not 0 <= level <= 4):
        raise ValueError("accuracy_level must be 0..4, with form 'matmulnbits'")
    with Source(src) as source:
        try:
            return _quantize(source, dst, choice, options, level, external)
        except FormatError as error:
            raise named(error, source) from None


def named(error: FormatError, source: Source) -> FormatError:
    """The error with the path of the model before it."""
    text = str(error)
    return error if text.startswith(source.path) else FormatError(f"{source.path}: {text}")


def _quantize(
    source: Source,
    dst: str | os.PathLike[str],
    choice: Choice,
    options: dict[str, Any],
    level: int | None,
    external: bool | None,
) -> Report:
    sound = is_sound(source)
    given = set(options["arrays"])
    with Output(dst, source, external) as output:
        edit = Edit(source, output)
        wanted, rows = _plan(edit, choice)
        notes = raise_opset(source.model) if wanted and choice.form == "qdq" else []
        if notes:  # nodes are others now
            edit = Edit(source, output)
            wanted, rows = _plan(edit, choice)
        if unused := given - {target.name for target in wanted}:
            raise ValueError(f"arrays has {min(unused)!r}, which is none of the weights that are quantized")
        names = (name for scope in edit.scopes for node in scope.graph.node for name in node.input)
        order = {name: i for i, name in enumerate(dict.fromkeys(names))}
        count: dict[tuple[int, str], int] = {}
        for target in wanted:
            key = (id(target.scope), target.name)
            count[key] = count.get(key, 0) + len(target.uses)
        for key in list(count):
            several = [target for target in wanted if (id(target.scope), target.name) == key]
            kept = len(edit.uses[key]) - count[key]
            rows += _replace(source, edit, several, kept, choice, options, level)
        rows.sort(key=lambda row: order[row.name])
        return finish(source, edit, output, choice.form, Report(tuple(rows), tuple(notes)), sound)


def _plan(edit: Edit, choice: Choice) -> tuple[list[Target], list[Row]]:
    """The weights that are quantized, and a row for each of the others."""
    found, left = targets(edit, choice.form)
    rows = [_left_row(one, choice) for one in left]
    wanted: list[Target] = []
    for target in found:
        why = choice.why_not(target.name, element_count(target.tensor))
        if why:
            rows.append(Row(target.name, target.shape, "", "", None, why))
        else:
            wanted.append(target)
    return wanted, rows


def is_sound(source: Source) -> bool:
    """Whether the checker of ONNX accepts the model as it is."""
    try:
        onnx.checker.check_model(source.path)
    except (onnx.checker.ValidationError, RuntimeError):
        return False
    return True


def _left_row(left: Left, choice: Choice) -> Row:
    tensor = left.scope.initializers[left.name]
    if choice.is_named(left.name):
        raise ValueError(f"{left.name!r} cannot be quantized: {left.why}")
    return Row(left.name, tuple(tensor.dims), "", "", None, left.why)


def _replace(
    source: Source,
    edit: Edit,
    several: list[Target],
    kept: int,
    choice: Choice,
    options: dict[str, Any],
    level: int | None,
) -> list[Row]:
    """Quantize weights once for each axis that products sum over."""
    scope, name, shape = several[0].scope, several[0].name, several[0].shape
    tensor = several[0].tensor
    scheme = choice.scheme(name, tensor.data_type)
    values = source.array(tensor)
    rows: list[Row] = []
    made: list[tuple[Target, Made]] = []
    for target in several:
        try:
            made_one, q, sqnr = _encode(values, scheme, target, choice.form, options)
        except (ValueError, TypeError) as error:
            raise type(error)(f"{name!r}: {error}") from None
        made.append((target, made_one))
        note = f"the floats stay, for {_others(edit, several)}" if kept else ""
        rows.append(Row(name, shape, q.scheme.label, name, sqnr, note))
    if not kept:
        edit.remove(scope, name)
    for i, (target, made_one) in enumerate(made):
        names = edit.add(scope, name, made_one, whole=not kept and i == 0)
        rows[i] = dataclasses.replace(rows[i], stored=names["codes"])
        put(edit, target, made_one, names, choice.form, level)
    return rows


def _others(edit: Edit, several: list[Target]) -> str:
    """Who else uses the weights."""
    mine = {(id(use.node), use.input) for target in several for use in target.uses}
    uses = edit.uses_left(several[0].scope, several[0].name)
    other = next(use for use in uses if use.node is None or (id(use.node), use.input) not in mine)
    if other.node is None:
        return "they are an output of the graph"
    return f"{other.node.op_type} {other.node.name or (other.node.output[0] if other.node.output else '')!r}"


def _encode(
    values: AnyArray, scheme: Scheme, target: Target, form: str, options: dict[str, Any]
) -> tuple[Made, QuantizedArray, float | None]:
    options = dict(options)
    given = options.pop("arrays").get(target.name)
    if form == "matmulbnb4":
        if given is not None:
            raise ValueError("arrays are taken in form 'qdq' and 'matmulnbits' only")
        turned = values if target.axis == 1 else values.T
        q = quantize_array(turned.reshape(-1), scheme, axis=0, **options)
        return make_bnb4(q, *turned.shape), q, _sqnr(q)
    if given is None:
        q = quantize_array(values, scheme, axis=target.axis, **options)
        sqnr = _sqnr(q)
    else:
        q = _fitting(given, target, form)
        sqnr = compare(values, q).sqnr_db
        if sqnr < 0:  # an error larger than the weights; of a square matrix, perhaps the wrong axis
            raise ValueError(
                f"arrays has values that are not near those of the model ({sqnr:.1f} dB); is it of another "
                "layer, or are its groups along the other axis?"
            )
    return (make_qdq if form == "qdq" else make_nbits)(q), q, sqnr


def _sqnr(q: QuantizedArray) -> float | None:
    return None if q.stats is None else q.stats.sqnr_db


def _fitting(given: QuantizedArray, target: Target, form: str) -> QuantizedArray:
    """An array of the caller's as the weights of a target. A matrix that is turned has the same parts."""
    if not isinstance(given, QuantizedArray):
        raise DtypeError(f"arrays has an object of {type(given).__name__}, not a QuantizedArray")
    shape, axis, dtype = given.shape, given.axis, FLOAT_NAMES[target.tensor.data_type]
    if len(shape) == 2 and (shape, axis) != (target.shape, target.axis):
        shape, axis = shape[::-1], 1 - axis
    if (shape, axis) != (target.shape, target.axis):
        raise ValueError(
            f"arrays has {given.shape} with groups along axis {given.axis}; the weights are {target.shape}, "
            f"and the product sums over axis {target.axis}"
        )
    if given.scheme.scale_dtype != dtype:
        raise ValueError(f"arrays has scales of {given.scheme.scale_dtype}; the weights are {dtype}")
    why = refusal(form, given.scheme)
    if why:
        raise ValueError(why)
    parts = (given.codes, given.scales, given.zeros)
    return QuantizedArray(*parts, scheme=given.scheme, shape=shape, axis=axis)


def put(edit: Edit, target: Target, made: Made, names: dict[str, str], form: str, level: int | None) -> None:
    """Let nodes take quantized weights."""
    if form == "qdq":
        result = edit.dequantize(target.scope, target.name, made, names)
        for use in target.uses:
            assert use.node is not None
            use.node.input[use.input] = result
        return
    for use in target.uses:
        assert use.node is not None
        bias = input_of(use.node, 2) if use.node.op_type == "Gemm" else ""
        edit.replace(use, form, made.attributes, names, bias, level)


def finish(source: Source, edit: Edit, output: Output, form: str, report: Report, sound: bool) -> Report:
    """Make the versions right and write the model."""
    edit.finish()
    notes = list(report.notes)
    if any(row.scheme for row in report):
        notes += raise_ir(edit.model, form) + ([] if form == "qdq" else import_microsoft(edit.model))
    if not sound:
        notes.append(f"onnx.checker rejects {source.path} itself; the output was not checked")
    notes += output.commit(edit.model, check=sound)
    return Report(report.rows, tuple(notes))
