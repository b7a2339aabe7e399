"""Vectors of lanes as numba types, so that a kernel's inner loop is packed instructions by construction.

LLVM's vectoriser gives up on rows of five to ten pixels, and on a hundred lines of geometry about gathered Gaussians. A
value of these types is an LLVM vector, which every target lowers to what it has (AVX-512, AVX, SSE, NEON):

    eight pairs     one number of each of eight (slice, Gaussian) pairs, for what is done once per pair
    a tile          two rows by eight columns of pixels, for what is done once per pixel

Arithmetic between such values, or with a scalar, reads as usual.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, models, register_model

LANES = 8
TILE_ROWS = 2
# Fused multiply-adds, and no promise that infinities never occur: a lane outside the cut-off may overflow before it is
# set to zero.
_FLAGS = ("contract", "reassoc")
_IR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType()}
_INT32 = ir.IntType(32)


class Lanes(types.Type):
    """Numba's name for `count` lanes of float32 or float64."""

    def __init__(self, element: Any, count: int) -> None:
        self.element, self.count = element, count
        super().__init__(name=f"{element}x{count}")

    @property
    def vector(self) -> ir.VectorType:
        """The type's LLVM vector."""
        return ir.VectorType(_IR[self.element], self.count)


@register_model(Lanes)
class _LanesModel(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, kind.vector)


TILE = Lanes(types.float32, TILE_ROWS * LANES)
SINGLE = Lanes(types.float32, LANES)


def _constant(kind: Lanes, values: list[float]) -> Any:
    return ir.Constant(kind.vector, values)


def _undefined(kind: Any) -> Any:
    return ir.Constant(kind, ir.Undefined)


def _order(lanes: list[int]) -> Any:
    return ir.Constant(ir.VectorType(_INT32, len(lanes)), lanes)


def _spread(builder: Any, kind: Lanes, scalar: Any) -> Any:
    one = builder.insert_element(_undefined(kind.vector), scalar, ir.Constant(_INT32, 0))
    return builder.shuffle_vector(one, _undefined(kind.vector), _order([0] * kind.count))


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Where eight neighbours of a contiguous array begin, from the flat index `index` on."""
    data = context.make_array(array_type)(context, builder, array).data
    vector = ir.VectorType(_IR[array_type.dtype], LANES)
    return builder.bitcast(builder.gep(data, [index]), vector.as_pointer())


def _bytes(array_type: Any) -> int:
    return array_type.dtype.bitwidth // 8


def _call(builder: Any, name: str, kind: Lanes, *args: Any) -> Any:
    """One of LLVM's functions of vectors."""
    full = f"llvm.{name}.v{kind.count}f{kind.element.bitwidth}"
    function = builder.module.globals.get(full)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(kind.vector, [kind.vector] * len(args)), full)
    return builder.call(function, args)


@intrinsic
def load8(typing_context, array, index):
    """Eight neighbours of a contiguous array, from the flat index `index` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, array, *args), align=_bytes(array))

    return Lanes(array.dtype, LANES)(array, types.intp), build


@intrinsic
def store8(typing_context, array, index, value):
    """Write eight neighbours of a contiguous array, from the flat index `index` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, array, args[0], args[1]), align=_bytes(array))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


@intrinsic
def add8(typing_context, array, index, value):
    """Add to eight neighbours of a contiguous float64 array, from the flat index `index` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pointer = _pointer(context, builder, array, args[0], args[1])
        wide = builder.fpext(args[2], ir.VectorType(_IR[array.dtype], LANES)) if value == SINGLE else args[2]
        builder.store(builder.fadd(builder.load(pointer, align=_bytes(array)), wide), pointer, align=_bytes(array))
        return context.get_dummy_value()

    return types.void(array, types.intp, value), build


@intrinsic
def gather8(typing_context, records, column, numbers, first):
    """One column of eight rows of a contiguous table; `numbers` has the rows' numbers, from `first` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        table = context.make_array(records)(context, builder, args[0])
        rows = context.make_array(numbers)(context, builder, args[2]).data
        width = builder.extract_value(table.shape, 1)
        out = _undefined(signature.return_type.vector)
        for lane in range(LANES):
            row = builder.load(builder.gep(rows, [builder.add(args[3], ir.Constant(args[3].type, lane))]))
            place = builder.add(builder.mul(builder.sext(row, width.type), width), args[1])
            out = builder.insert_element(out, builder.load(builder.gep(table.data, [place])), ir.Constant(_INT32, lane))
        return out

    return Lanes(records.dtype, LANES)(records, types.intp, numbers, types.intp), build


@intrinsic
def item(typing_context, array, index):
    """One number of a contiguous array, at the flat index `index`, which cannot count from the end."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(array)(context, builder, args[0]).data
        return builder.load(builder.gep(data, [args[1]]))

    return array.dtype(array, types.intp), build


@intrinsic
def transpose8(typing_context, rows):
    """Eight vectors of eight lanes, rows for columns."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[0], LANES)
        for far in (4, 2, 1):
            # Lane l of row i changes places with lane l - far of row i + far, wherever l has the bit `far`, i has not.
            first = _order([lane ^ far | LANES if lane & far else lane for lane in range(LANES)])
            second = _order([lane | LANES if lane & far else lane | far for lane in range(LANES)])
            for i in range(LANES):
                if not i & far:
                    upper, lower = values[i], values[i + far]
                    values[i] = builder.shuffle_vector(upper, lower, first)
                    values[i + far] = builder.shuffle_vector(upper, lower, second)
        return context.make_tuple(builder, rows, values)

    return rows(rows), build


@intrinsic
def sum_tiles(typing_context, tiles):
    """The sums over the lanes of up to eight tiles, one in each of eight lanes, in one fixed order."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        values = cgutils.unpack_tuple(builder, args[0], len(tiles))
        values = [_add_parts(builder, v, v, range(LANES), LANES) for v in values]
        for half in (4, 2, 1):
            # Two vectors' blocks of 2 * half lanes become blocks of half in one vector.
            values += values[-1:] * (len(values) % 2)
            low = [lane for lane in range(2 * LANES) if not lane & half]
            values = [_add_parts(builder, a, b, low, half) for a, b in zip(values[::2], values[1::2], strict=True)]
        return values[0]

    return SINGLE(tiles), build


def _add_parts(builder: Any, a: Any, b: Any, low: Any, apart: int) -> Any:
    """The lanes `low` of a and b, plus those that lie `apart` from them."""
    high = [lane + apart for lane in low]
    return builder.fadd(*(builder.shuffle_vector(a, b, _order(list(lanes))) for lanes in (low, high)))


@intrinsic
def load_tile(typing_context, canvas, index, stride):
    """Two rows by eight columns of a contiguous image whose rows lie `stride` apart."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        below = builder.add(args[1], args[2])
        rows = [
            builder.load(_pointer(context, builder, canvas, args[0], place), align=_bytes(canvas))
            for place in (args[1], below)
        ]
        return builder.shuffle_vector(*rows, _order(list(range(TILE.count))))

    return TILE(canvas, types.intp, types.intp), build


@intrinsic
def store_tile(typing_context, canvas, index, stride, value):
    """Write two rows by eight columns of a contiguous image whose rows lie `stride` apart."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        for row, place in enumerate((args[1], builder.add(args[1], args[2]))):
            lanes = _order(list(range(row * LANES, (row + 1) * LANES)))
            half = builder.shuffle_vector(args[3], _undefined(TILE.vector), lanes)
            builder.store(half, _pointer(context, builder, canvas, args[0], place), align=_bytes(canvas))
        return context.get_dummy_value()

    return types.void(canvas, types.intp, types.intp, TILE), build


@intrinsic
def lane_numbers(typing_context):
    """0, 1, ... 7."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _constant(SINGLE, [float(i) for i in range(LANES)])

    return SINGLE(), build


@intrinsic
def tile_columns(typing_context):
    """0, 1, ... 7 in both rows of a tile."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _constant(TILE, [float(i) for i in range(LANES)] * TILE_ROWS)

    return TILE(), build


@intrinsic
def tile_rows(typing_context):
    """0 in the first row of a tile, 1 in the second."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _constant(TILE, [float(i) for i in range(TILE_ROWS) for _ in range(LANES)])

    return TILE(), build


@intrinsic
def tile_zero(typing_context):
    """A tile of zeros."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _constant(TILE, [0.0] * TILE.count)

    return TILE(), build


@intrinsic
def sum_lanes(typing_context, value):
    """The sum of the lanes, in one fixed order."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        out, count = args[0], value.count
        while count > 1:
            nothing, count = _undefined(out.type), count // 2
            low = builder.shuffle_vector(out, nothing, _order(list(range(count))))
            high = builder.shuffle_vector(out, nothing, _order(list(range(count, 2 * count))))
            out = builder.fadd(low, high)
        return builder.extract_element(out, ir.Constant(_INT32, 0))

    return value.element(value), build


@intrinsic
def keep_from(typing_context, value, test, bound):
    """`value` in the lanes where `test >= bound`, zero in the others; `bound` is a scalar."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        limit = context.cast(builder, args[2], bound, test.element)
        keep = builder.fcmp_ordered(">=", args[1], _spread(builder, test, limit))
        return builder.select(keep, args[0], _constant(value, [0.0] * value.count))

    return value(value, test, bound), build


def _converter(element: Any) -> Any:
    """What turns lanes, or a scalar for eight of them, into lanes of `element`."""

    @intrinsic
    def convert(typing_context, value):
        kind = Lanes(element, value.count if isinstance(value, Lanes) else LANES)

        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            if not isinstance(value, Lanes):
                return _spread(builder, kind, context.cast(builder, args[0], value, element))
            if value.element.bitwidth > element.bitwidth:
                return builder.fptrunc(args[0], kind.vector)
            return args[0] if value.element == element else builder.fpext(args[0], kind.vector)

        return kind(value), build

    return convert


single = _converter(types.float32)
double = _converter(types.float64)


def _function(name: str) -> Any:
    """A function of lanes that LLVM knows."""

    @intrinsic
    def function(typing_context, value):
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return _call(builder, name, value, args[0])

        return value(value), build

    return function


root = _function("sqrt")
floor = _function("floor")
ceil = _function("ceil")


def _extreme(name: str) -> Any:
    """The larger or the smaller of lanes and a scalar, or of lanes and lanes."""

    @intrinsic
    def function(typing_context, value, bound):
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            limit = args[1]
            if bound != value:
                limit = _spread(builder, value, context.cast(builder, limit, bound, value.element))
            return _call(builder, name, value, args[0], limit)

        return value(value, bound), build

    return function


at_least = _extreme("maxnum")
at_most = _extreme("minnum")


def _binary(operation: Any, method: str) -> None:
    """Let `operation` work between lanes of one type, and between lanes and a scalar on either side."""

    @infer_global(operation)
    class _Template(AbstractTemplate):
        def generic(self, args: Any, kws: Any) -> Any:
            lanes = [a for a in args if isinstance(a, Lanes)]
            if len(args) != 2 or not lanes or lanes[0] != lanes[-1]:
                return None
            if len(lanes) == 1 and not any(isinstance(a, types.Number) for a in args):
                return None
            return signature(lanes[0], *args)

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kind = signature.return_type
        left, right = (
            value
            if isinstance(given, Lanes)
            else _spread(builder, kind, context.cast(builder, value, given, kind.element))
            for given, value in zip(signature.args, args, strict=True)
        )
        return getattr(builder, method)(left, right, flags=_FLAGS)

    for left, right in ((Lanes, Lanes), (Lanes, types.Number), (types.Number, Lanes)):
        lower_builtin(operation, left, right)(build)


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
_binary(operator.truediv, "fdiv")


@infer_global(operator.neg)
class _Negative(AbstractTemplate):
    def generic(self, args: Any, kws: Any) -> Any:
        return signature(args[0], args[0]) if isinstance(args[0], Lanes) else None


@lower_builtin(operator.neg, Lanes)
def _negate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
    return builder.fneg(args[0])
