"""Eight float32 lanes as a numba type, so that a kernel's inner loop is packed instructions by construction.

LLVM's vectoriser gives up on rows of five to ten pixels; a value of this type is an LLVM vector, which every target
lowers to what it has (AVX, SSE, NEON). Arithmetic between such values, or with a scalar on the right, reads as usual.
"""

# numba finds the types of what it compiles.
# mypy: disallow-untyped-defs=False

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, models, overload, register_model

LANES = 8
# Fused multiply-adds, and no promise that infinities never occur: a lane outside the cut-off may overflow before it is
# set to zero.
_FLAGS = ("contract", "reassoc")
_VECTOR = ir.VectorType(ir.FloatType(), LANES)


class Float8Type(types.Type):
    """Numba's name for eight float32 lanes."""

    def __init__(self) -> None:
        super().__init__(name="float8")


float8 = Float8Type()


@register_model(Float8Type)
class _Float8Model(models.PrimitiveModel):
    def __init__(self, manager: Any, kind: Any) -> None:
        super().__init__(manager, kind, _VECTOR)


def _pointer(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    data = context.make_array(array_type)(context, builder, array).data
    return builder.bitcast(builder.gep(data, [index]), _VECTOR.as_pointer())


def _spread(builder: Any, scalar: Any) -> Any:
    one = builder.insert_element(ir.Constant(_VECTOR, ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0))
    lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
    return builder.shuffle_vector(one, ir.Constant(_VECTOR, ir.Undefined), lanes)


@intrinsic
def load8(typing_context, array, index):
    """Eight neighbours of a contiguous float32 array, from `index` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.load(_pointer(context, builder, signature.args[0], *args), align=4)

    return float8(array, types.intp), build


@intrinsic
def store8(typing_context, array, index, value):
    """Write eight neighbours of a contiguous float32 array, from `index` on."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature.args[0], args[0], args[1]), align=4)
        return context.get_dummy_value()

    return types.void(array, types.intp, float8), build


@intrinsic
def spread8(typing_context, scalar):
    """The same value in every lane."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return _spread(builder, args[0])

    return float8(types.float32), build


@intrinsic
def iota8(typing_context):
    """0, 1, ... 7."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return ir.Constant(_VECTOR, [float(i) for i in range(LANES)])

    return float8(), build


@intrinsic
def sum8(typing_context, vector):
    """The sum of the lanes, in one fixed order."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        value = args[0]
        for half in (4, 2, 1):
            count = 2 * half
            kind = ir.VectorType(ir.IntType(32), half)
            undefined = ir.Constant(ir.VectorType(ir.FloatType(), count), ir.Undefined)
            low = builder.shuffle_vector(value, undefined, ir.Constant(kind, list(range(half))))
            high = builder.shuffle_vector(value, undefined, ir.Constant(kind, list(range(half, count))))
            value = builder.fadd(low, high)
        return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))

    return types.float32(float8), build


@intrinsic
def keep_from8(typing_context, value, test, bound):
    """`value` in the lanes where `test >= bound`, zero in the others."""

    def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        keep = builder.fcmp_ordered(">=", args[1], _spread(builder, args[2]))
        return builder.select(keep, args[0], ir.Constant(_VECTOR, [0.0] * LANES))

    return float8(float8, float8, types.float32), build


def _binary(operation: Callable[..., Any], method: str) -> None:
    """Let `operation` work between float8 values, and between a float8 and a float32 scalar on its right."""

    @intrinsic
    def lanes(typing_context, left, right):
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, method)(args[0], args[1], flags=_FLAGS)

        return float8(float8, float8), build

    @intrinsic
    def scalar(typing_context, left, right):
        def build(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, method)(args[0], _spread(builder, args[1]), flags=_FLAGS)

        return float8(float8, types.float32), build

    @overload(operation)
    def choose(left, right):
        if isinstance(left, Float8Type):
            if isinstance(right, Float8Type):
                return lambda left, right: lanes(left, right)
            if isinstance(right, types.Float):
                return lambda left, right: scalar(left, right)
        return None


_binary(operator.add, "fadd")
_binary(operator.sub, "fsub")
_binary(operator.mul, "fmul")
