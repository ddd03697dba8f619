r"""Exponential and logarithm that a compiler can put into vector registers.

Compiled loops call the C library for ``exp`` and ``log1p``, one number at a time. In float32
these are polynomials instead, with relative errors under 3e-7, so that loops over them run on
as many numbers at once as the processor's registers hold. In float64 they are the C library's.
"""

import math
from typing import Any

import numba
import numpy as np
from numba.core import types
from numba.extending import intrinsic, overload

__all__ = ["Number", "exp", "log1p"]

_EXACT = {"contract"}
"""What the compiler may do here: fused multiply-adds, but no other order of operations, which
would undo the splitting of constants."""

Number = float | np.floating

_F, _I = np.float32, np.int32
_LOG2_E = _F(1 / math.log(2))
_LN_2 = _F(math.log(2))
_LN_2_HIGH = _F(0.693359375)
_LN_2_LOW = _F(math.log(2) - 0.693359375)
"""The high part has few bits: its product with a small whole number is exact."""
_LEAST, _MOST = _F(-87.0), _F(88.0)
_HALF, _ONE, _TWO = _F(0.5), _F(1), _F(2)
_BIAS, _MANTISSA_BITS, _ROOT_HALF_BITS = _I(127), _I(23), _I(0x3F3504F3)
_E2, _E3, _E4, _E5, _E6, _E7 = (_F(1 / math.factorial(k)) for k in range(2, 8))
_L3, _L5, _L7, _L9 = (_F(1 / k) for k in (3, 5, 7, 9))


@intrinsic
def _bits(typing: Any, x: Any) -> Any:
    """Read the bits of a float32 as an int32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], context.get_value_type(signature.return_type))

    return types.int32(types.float32), generate


@intrinsic
def _float_of(typing: Any, n: Any) -> Any:
    """Read the bits of an int32 as a float32."""

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        return builder.bitcast(values[0], context.get_value_type(signature.return_type))

    return types.float32(types.int32), generate


@numba.njit(fastmath=_EXACT, error_model="numpy")
def _exp32(x: np.float32) -> np.float32:
    r"""Return :math:`2^n e^r` with whole n and :math:`|r| \le \log(2)/2`: Taylor, 7 terms."""
    x = min(max(x, _LEAST), _MOST)
    n = np.floor(x * _LOG2_E + _HALF)
    r = (x - n * _LN_2_HIGH) - n * _LN_2_LOW
    p = _E4 + r * (_E5 + r * (_E6 + r * _E7))
    p = _ONE + r * (_ONE + r * (_E2 + r * (_E3 + r * p)))
    return p * _float_of(_I((_I(n) + _BIAS) << _MANTISSA_BITS))  # type: ignore[call-arg, no-any-return]


@numba.njit(fastmath=_EXACT, error_model="numpy")
def _log1p32(x: np.float32) -> np.float32:
    r"""Return :math:`k \log 2 + \log(1 + f)`, with :math:`1 + x = 2^k (1 + f)`.

    Without loss of digits for small x: there f is x. And
    :math:`\log(1 + f) = 2\,\mathrm{artanh}(f / (2 + f))`, an odd series.
    """
    bits: np.int32 = _bits(_ONE + x)  # type: ignore[call-arg]
    k = _I((bits - _ROOT_HALF_BITS) >> _MANTISSA_BITS)
    scale = _float_of(_I((_BIAS - k) << _MANTISSA_BITS))
    f = x * scale + (scale - _ONE)
    s = f / (_TWO + f)
    s2 = s * s
    return _F(k) * _LN_2 + _TWO * s * (_ONE + s2 * (_L3 + s2 * (_L5 + s2 * (_L7 + s2 * _L9))))


def exp(x: Number) -> Number:
    """Return e to the x, for use in compiled code; in float32 x is held within [-87, 88]."""
    return math.exp(x)


def log1p(x: Number) -> Number:
    """Return log(1 + x) for x > -1, for use in compiled code; in float32 for x < 1e38."""
    return math.log1p(x)


# numba wants no annotations here that the functions returned do not have.


@overload(exp)
def _compiled_exp(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _exp32(x)
    return lambda x: math.exp(x)


@overload(log1p)
def _compiled_log1p(x):  # type: ignore[no-untyped-def]
    if x == types.float32:
        return lambda x: _log1p32(x)
    return lambda x: math.log1p(x)
