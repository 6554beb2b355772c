"""From real numbers to codes and back, exact at every tie.

Float64 divides; wherever its error could change the result, rational arithmetic decides.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np

from fixqnn.errors import BadInput
from fixqnn.modes import GOLDEN, WORD, Overflow, Rounding, check_store, draw64, fit, mix64, round_quotient
from fixqnn.rationals import is_float, nearest_float

if TYPE_CHECKING:
    from fixqnn.format import Format

# A float64 divided by the nearest float64 of a scale is off by at most 2**-52 of the quotient, and adding the nearest
# float64 of a zero point or draw rounds by 2**-53 of what is added, twice. Nearer to a decision than this, with a
# margin of two, rational arithmetic decides.
SLACK = 2.0**-50
# That argument fails beside subnormals and infinities: no scale and no quotient outside these is trusted.
SCALE_LOW, SCALE_HIGH = 2.0**-900, 2.0**900
QUOTIENT_LOW, QUOTIENT_HIGH = 2.0**-1000, 2.0**61


def at(name: str, index: tuple[int, ...]) -> str:
    """Name one element of an array, for messages.

    >>> at("values", (3, 1)), at("values", ())
    ('values[3, 1]', 'values')
    """
    return f"{name}[{', '.join(str(i) for i in index)}]" if index else name


def encode(
    values: Any, format: Format, rounding: str, overflow: str, kept: int, seed: int, name: str
) -> tuple[np.ndarray, np.ndarray]:
    """Encode values; returns the codes, and where the overflow mode changed one. See ``Format.encode``."""
    rounding, overflow = Rounding.of(rounding), Overflow.of(overflow)
    check_store(format.bits, format.signed, overflow, kept, format.narrow_range)
    reals = as_reals(values, name)
    format.check_shape(reals.shape, name)
    if reals.dtype == object:
        codes = np.zeros(reals.shape, format.code_dtype)
        acted = np.zeros(reals.shape, bool)
        doubtful = np.ones(reals.shape, bool)
    else:
        # An array of no axes would turn into numpy scalars on the way.
        whole, doubtful = round_floats(reals if reals.ndim else reals.reshape(1), format, rounding, seed)
        codes, acted, unfit = fit_array(whole, format, overflow, kept)
        doubtful |= unfit
        codes, acted = codes.reshape(reals.shape), acted.reshape(reals.shape)
    where = np.flatnonzero(doubtful)
    if where.size:
        one = _encoder(format, rounding, overflow, kept, seed)
        results = [one(*arguments) for arguments in zip(*_places(reals, format, where), where.tolist(), strict=True)]
        codes.reshape(-1)[where] = np.array([code for code, _ in results], format.code_dtype)
        acted.reshape(-1)[where] = [changed for _, changed in results]
    return codes, acted


def round_floats(reals: np.ndarray, format: Format, rounding: Rounding, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Round float64 values to unclipped int64 codes; the second array tells where the code is not to be trusted."""
    scales, slacks, inner, outer = (_along(format, column, reals.ndim) for column in _columns(format))
    with np.errstate(all="ignore"):
        quotient = reals / scales
        position = quotient + inner
        size = np.abs(quotient)
        doubtful = ~(size + np.abs(inner) < QUOTIENT_HIGH)  # NaN is doubtful too
        doubtful |= (size < QUOTIENT_LOW) & (reals != 0)
        slack = slacks * (size + np.abs(inner))
        if rounding is Rounding.stochastic:
            position += draws(seed, reals.size).reshape(reals.shape) * 2.0**-64
            slack = SLACK * (size + np.abs(inner) + 1)
    position[doubtful] = 0.0
    part, whole = np.modf(position)  # both exact, with the sign of the position
    distance = np.abs(part)
    if rounding.nearest:
        doubtful |= np.abs(distance - 0.5) < slack
        up = distance > 0.5
        tie = distance == 0.5
        if tie.any():
            odd = whole.astype(np.int64) & 1 == 1
            outward = {
                Rounding.half_up: part > 0,
                Rounding.half_down: part < 0,
                Rounding.half_away: True,
                Rounding.half_toward_zero: False,
                Rounding.half_even: odd,
                Rounding.half_odd: ~odd,
            }[rounding]
            up |= tie & outward
    else:
        doubtful |= np.minimum(distance, 1 - distance) < slack
        up = {
            Rounding.floor: part < 0,
            Rounding.stochastic: part < 0,
            Rounding.ceil: part > 0,
            Rounding.toward_zero: np.False_,
            Rounding.away_from_zero: part != 0,
        }[rounding]
    codes = whole.astype(np.int64)
    codes += np.where(up, np.sign(part), 0.0).astype(np.int64)
    return codes + outer, doubtful


def fit_array(
    whole: np.ndarray, format: Format, overflow: Overflow, kept: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Store int64 integers in codes of the format; also tells where that changed one, and where it was not done."""
    bits, low, high = format.bits, format.low, format.high
    if overflow is Overflow.saturate_symmetric and format.signed:
        low = -high
    limits = np.iinfo(np.int64)
    acted = (whole < max(low, limits.min)) | (whole > min(high, limits.max))
    if not acted.any():
        return whole.astype(format.code_dtype), acted, acted
    if bits > 62 or overflow is Overflow.wrap_sign_magnitude:  # no room in 64 bits; the deleted bit is gone
        return np.where(acted, 0, whole).astype(format.code_dtype), acted, acted
    if overflow is Overflow.wrap:
        body = 2 ** (bits - kept)
        pattern = whole & (body - 1)
        if kept:
            above, below = 2 ** (kept - 1) - 1, 2 ** (kept - 1)  # 01...1 and 10...0
            pattern += body * np.where(whole < 0, below, above) if format.signed else body * (2**kept - 1)
        if format.signed:
            pattern -= np.where(pattern >= 2 ** (bits - 1), 2**bits, 0)
        stored = np.where(acted, pattern, whole)
    elif overflow is Overflow.saturate_zero:
        stored = np.where(acted, 0, whole)
    else:
        stored = np.clip(whole, low, high)
    return stored.astype(format.code_dtype), acted, np.zeros(whole.shape, bool)


def decode(codes: Any, format: Format) -> np.ndarray:
    """Decode to the nearest float64; see ``Format.decode``."""
    codes = as_codes(codes)
    format.check_shape(codes.shape, "codes")
    # scale * (code - up/down) = (scale / down) * (code * down - up): an integer times a rational.
    downs = [Fraction(z).denominator for z in format.zero_points]
    steps = [s / down for s, down in zip(format.scales, downs, strict=True)]
    ups = [int(z * down) for z, down in zip(format.zero_points, downs, strict=True)]
    exact = _exact_integers(codes, max(downs), max(map(abs, ups)))
    if exact:
        down, up = (_along(format, np.array(c, np.int64), codes.ndim) for c in (downs, ups))
        multiple = (codes.astype(np.int64) * down - up).astype(np.float64)
        # One operation on exact float64 operands is correctly rounded; two are not.
        if all(is_float(s) for s in steps):
            with np.errstate(over="ignore"):  # the nearest float64 of a larger number is infinity
                return multiple * _along(format, np.array([float(s) for s in steps]), codes.ndim)
        widest = int(np.max(np.abs(multiple), initial=1)) * max(s.numerator for s in steps)
        if widest < 2**53 and all(s.denominator < 2**53 for s in steps):
            numerator = _along(format, np.array([float(s.numerator) for s in steps]), codes.ndim)
            return multiple * numerator / _along(format, np.array([float(s.denominator) for s in steps]), codes.ndim)
    known: dict[tuple[int, int], float] = {}
    flat = np.empty(codes.size)
    for i, key in enumerate(zip(*_places(codes, format, np.arange(codes.size)), strict=True)):
        if key not in known:
            code, channel = key
            known[key] = nearest_float(steps[channel] * (int(code) * downs[channel] - ups[channel]))
        flat[i] = known[key]
    return flat.reshape(codes.shape)


def decode_exact(codes: Any, format: Format) -> np.ndarray:
    """Decode to Fractions; see ``Format.decode_exact``."""
    codes = as_codes(codes)
    format.check_shape(codes.shape, "codes")
    reals = np.empty(codes.size, object)
    for i, (code, channel) in enumerate(zip(*_places(codes, format, np.arange(codes.size)), strict=True)):
        reals[i] = Fraction(format.scales[channel] * (int(code) - format.zero_points[channel]))
    return reals.reshape(codes.shape)


def as_reals(values: Any, name: str) -> np.ndarray:
    """Make a C-ordered array of float64, or of Python rationals where that would lose bits; refuse NaN, infinity."""
    array = _as_array(values, name)
    if array.dtype.kind in "biu" and _exact_integers(array, 1, 0):
        return array.astype(np.float64, order="C")
    if array.dtype.kind == "f":
        _refuse(~np.isfinite(array), array, name, "only finite numbers can be encoded")
        if array.dtype.itemsize <= 8:
            return array.astype(np.float64, order="C")
    elif array.dtype.kind not in "iuO":
        raise BadInput(f"{name} has dtype {array.dtype}; only real numbers can be encoded")
    exact = np.empty(array.size, object)
    exact[:] = [_exact(v) for v in array.ravel().tolist()]
    _refuse(np.array([v is None for v in exact], bool).reshape(array.shape), array, name,
            "only finite real numbers can be encoded")  # fmt: skip
    return exact.reshape(array.shape)


def as_codes(codes: Any, name: str = "codes") -> np.ndarray:
    """Turn what a user gives into an array of integers: a numpy integer type, or Python integers."""
    array = _as_array(codes, name)
    if array.size == 0 and array.dtype.kind == "f":
        return array.astype(np.int64)
    if array.dtype.kind == "b":
        return array.astype(np.int32)
    if array.dtype.kind in "iu":
        return array
    if array.dtype.kind == "O":
        wrong = np.array([not isinstance(v, int | np.integer) or isinstance(v, bool) for v in array.ravel()], bool)
        _refuse(wrong.reshape(array.shape), array, name, "codes are integers")
        return array
    raise BadInput(f"{name} has dtype {array.dtype}, but codes are integers; real numbers become codes by encode()")


def draws(seed: int, count: int) -> np.ndarray:
    """Draw ``draw64(seed, 0, i)`` for i below `count`, as uint64."""
    key = mix64((seed + GOLDEN) % WORD)
    z = np.arange(1, count + 1, dtype=np.uint64) * np.uint64(GOLDEN) + np.uint64(key)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def _encoder(format: Format, rounding: Rounding, overflow: Overflow, kept: int, seed: int) -> Any:
    """Make the function (value, channel, flat index) -> (code, changed) that works in rationals throughout."""
    known: dict[tuple[Any, int], tuple[int, bool]] = {}

    def one(value: Any, channel: int, index: int) -> tuple[int, bool]:
        key = (value, channel)
        if rounding is not Rounding.stochastic and key in known:  # doubtful values are often few, and repeated
            return known[key]
        zero = format.zero_points[channel]
        inner, outer = (0, zero) if isinstance(zero, int) else (zero, 0)
        position = Fraction(*value.as_integer_ratio()) / format.scales[channel] + inner
        draw = draw64(seed, 0, index) if rounding is Rounding.stochastic else 0
        whole = round_quotient(position.numerator, position.denominator, rounding, draw) + outer
        unrounded = position.numerator // position.denominator + outer
        deleted = unrounded >> format.bits & 1
        code = fit(whole, format.bits, format.signed, overflow, kept, deleted, format.narrow_range)
        known[key] = code, code != whole
        return known[key]

    return one


def _columns(format: Format) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per channel: the scale as float64, the slack of a quotient, the zero point inside the rounding, and outside."""
    rows = []
    for scale, zero in zip(format.scales, format.zero_points, strict=True):
        inner, outer = (0.0, zero) if isinstance(zero, int) else (nearest_float(zero), 0)
        step = nearest_float(scale)
        if not SCALE_LOW < step < SCALE_HIGH or abs(outer) >= 2**61:
            step, outer = np.nan, 0
        exact = inner == 0 and scale == Fraction(step) if np.isfinite(step) else False
        power = exact and np.frexp(step)[0] == 0.5  # dividing by a power of two rounds nothing
        rows.append((step, 0.0 if power else SLACK, inner, outer))
    scales, slacks, inner, outer = zip(*rows, strict=True)
    return np.array(scales), np.array(slacks), np.array(inner), np.array(outer, np.int64)


def _along(format: Format, column: np.ndarray, rank: int) -> np.ndarray:
    """Lay one number per channel along the channel axis of an array of that rank; a single number stays one."""
    if format.axis is None:
        return column[0]
    return column.reshape([-1 if axis == format.axis else 1 for axis in range(rank)])


def _places(array: np.ndarray, format: Format, where: np.ndarray) -> tuple[list[Any], list[int]]:
    """Values at flat indices, as Python numbers, and the channel of each."""
    values = array.reshape(-1)[where].tolist()
    if format.axis is None:
        return values, [0] * len(values)
    inside = int(np.prod(array.shape[format.axis + 1 :]))
    return values, (where // inside % format.channels).tolist()


def _as_array(values: Any, name: str) -> np.ndarray:
    """Make an array of what is given, losing nothing; torch tensors are read without importing torch."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        try:
            return values.numpy()
        except TypeError:
            return values.float().numpy()  # bfloat16 and smaller: numpy has no such types, and float32 holds them
    try:
        array = np.asarray(values)
        if array.dtype.kind == "f" and not isinstance(values, np.ndarray | np.generic | float):
            # A list that mixes large integers with floats or with each other: numpy would round the integers.
            exact = np.asarray(values, dtype=object)
            if any(isinstance(v, int | np.integer) and abs(int(v)) > 2**53 for v in exact.ravel()):
                return exact
    except ValueError as problem:
        raise BadInput(f"{name} cannot be made an array: {problem}") from None
    return array


def _exact(value: Any) -> int | Fraction | None:
    """Take one number at its exact value; None for what is not a finite real number."""
    if isinstance(value, int | np.integer):
        return int(value)
    try:
        return Fraction(*value.as_integer_ratio())
    except (AttributeError, ValueError, OverflowError):
        return None


def _refuse(wrong: np.ndarray, array: np.ndarray, name: str, why: str) -> None:
    if wrong.any():
        index = tuple(int(i) for i in np.argwhere(wrong)[0])
        raise BadInput(f"{at(name, index)} is {array[index]!s}; {why}")


def _exact_integers(array: np.ndarray, factor: int, offset: int) -> bool:
    """Whether every integer of the array, times `factor` and moved by `offset`, is exact in float64."""
    span = max(abs(int(array.min())), abs(int(array.max())), 1) if array.size else 1
    return span * factor + offset <= 2**53
