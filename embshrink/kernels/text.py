"""Parsing of rows of numbers in text to float32, with the same bits as Python's ``float`` and a cast.

Numbers are read by Clinger's fast path (W. D. Clinger, "How to read floating point numbers
accurately", PLDI 1990), else by the algorithm of Eisel and Lemire (D. Lemire, "Number parsing at a
gigabyte per second", 2021, section 5). The few rows that neither algorithm can decide, and all rows with unusual
content, are marked and left to the caller.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from embshrink.kernels import kernel

if TYPE_CHECKING:
    from embshrink.storage.arrays import AnyArray, ByteArray, FloatArray, IntArray

ODD = 1  # the row was not read; the caller must read it
LONG = 2  # the word contains a space, and its part after the last space is a number
TRAILING = 4  # a space follows the last number

# In float32, numbers below 10**-46 are 0 and numbers from 10**39 on overflow; a mantissa has up to 19 digits.
_MIN_POWER, _MAX_POWER = -65, 38
_MAX_DIGITS = 19
# The least float64 that is rounded to infinity in float32: halfway from the largest float32 to 2**128.
_OVERFLOW = float(2**128 - 2**103)
_MAX_EXPONENT = 1_000_000_000


def _powers_of_five() -> AnyArray:
    """Return the 128 most significant bits of 5**q for every q, rounded as Lemire's proof requires."""
    table = []
    for q in range(_MIN_POWER, _MAX_POWER + 1):
        if q >= 0:
            shift = (5**q).bit_length() - 128
            bits = 5**q >> shift if shift > 0 else 5**q << -shift
        else:
            length = (5**-q - 1).bit_length()
            bits = 2 ** (length + 127 if q >= -27 else 2 * length + 128) // 5**-q + 1
            bits >>= max(0, bits.bit_length() - 128)
        table.append((bits >> 64, bits & (2**64 - 1)))
    return np.array(table, dtype=np.uint64)


_FIVES = _powers_of_five()
_TENS = 10.0 ** np.arange(23)
_ZERO, _ONE, _TEN, _THREE = np.uint64(0), np.uint64(1), np.uint64(10), np.uint64(3)
_HALF_BITS, _LOW_HALF, _ALL_BITS = np.uint64(32), np.uint64(2**32 - 1), np.uint64(2**64 - 1)
_LOW_9_BITS = np.uint64(2**9 - 1)
_EXACT = np.uint64(2**53)
_STEP, _SHORT = np.uintp(1), np.uintp(15)


@kernel
def _multiply(a: np.uint64, b: np.uint64) -> tuple[np.uint64, np.uint64]:
    """Return the upper and the lower 64 bits of the product."""
    a1, a0 = a >> _HALF_BITS, a & _LOW_HALF
    b1, b0 = b >> _HALF_BITS, b & _LOW_HALF
    low, left, right = a0 * b0, a1 * b0, a0 * b1
    middle = (low >> _HALF_BITS) + (left & _LOW_HALF) + (right & _LOW_HALF)
    high = a1 * b1 + (left >> _HALF_BITS) + (right >> _HALF_BITS) + (middle >> _HALF_BITS)
    return high, ((middle & _LOW_HALF) << _HALF_BITS) | (low & _LOW_HALF)


@kernel
def _eisel_lemire(mantissa: np.uint64, power: int) -> float:
    """Return the float64 nearest to mantissa * 10**power, or -1 if the algorithm cannot decide."""
    zeros = 0
    while mantissa >> np.uint64(63) == _ZERO:
        mantissa <<= _ONE
        zeros += 1
    high, low = _multiply(mantissa, _FIVES[power - _MIN_POWER, 0])
    if high & _LOW_9_BITS == _LOW_9_BITS:
        more = _multiply(mantissa, _FIVES[power - _MIN_POWER, 1])[0]
        if low > _ALL_BITS - more:  # the sum carries
            low = low - (_ALL_BITS - more) - _ONE
            high += _ONE
        else:
            low += more
    if low == _ALL_BITS and not -27 <= power <= 55:
        return -1.0
    upper = np.int64(high >> np.uint64(63))
    shift = np.uint64(upper + 9)
    bits = high >> shift
    exponent = ((217706 * power) >> 16) + 63 + upper - zeros - 52
    if low <= _ONE and -4 <= power <= 23 and bits & _THREE == _ONE and bits << shift == high:
        bits -= _ONE  # exactly halfway: round to even, which is down here
    bits = (bits + (bits & _ONE)) >> _ONE
    return math.ldexp(float(np.int64(bits)), int(exponent))


@kernel
def _number(data: ByteArray, i: int) -> tuple[float, int, bool]:
    """Read the decimal number at i; return its value, its end, and whether it was read."""
    negative = data[i] == 45
    if negative or data[i] == 43:
        i += 1
    mantissa = _ZERO
    digits = 0
    power = 0
    cut = False
    first = i
    digit = np.int64(data[i]) - 48
    while 0 <= digit <= 9:
        if digits < _MAX_DIGITS:
            mantissa = mantissa * _TEN + np.uint64(digit)
            digits += mantissa != _ZERO
        else:
            power += 1
            cut |= digit != 0
        i += 1
        digit = np.int64(data[i]) - 48
    count = i - first
    if data[i] == 46:
        i += 1
        first = i
        digit = np.int64(data[i]) - 48
        while 0 <= digit <= 9:
            if digits < _MAX_DIGITS:
                mantissa = mantissa * _TEN + np.uint64(digit)
                digits += mantissa != _ZERO
                power -= 1
            else:
                cut |= digit != 0
            i += 1
            digit = np.int64(data[i]) - 48
        count += i - first
    if count == 0:
        return 0.0, i, False
    if data[i] == 101 or data[i] == 69:
        i += 1
        down = data[i] == 45
        if down or data[i] == 43:
            i += 1
        first = i
        exponent = 0
        digit = np.int64(data[i]) - 48
        while 0 <= digit <= 9:
            exponent = min(exponent * 10 + digit, _MAX_EXPONENT)
            i += 1
            digit = np.int64(data[i]) - 48
        if i == first:
            return 0.0, i, False
        power += -exponent if down else exponent
    if mantissa == _ZERO or power + digits < -46:
        value = 0.0
    elif mantissa <= _EXACT and -22 <= power <= 22 and not cut:
        value = float(np.int64(mantissa))
        if power < 0:
            value /= _TENS[-power]
        else:
            value *= _TENS[power]
    elif power + digits > 39:
        return 0.0, i, False
    else:
        value = _eisel_lemire(mantissa, power)
        # The exact mantissa lies between this one and the next: if both give the same number, it is the result.
        if value < 0 or (cut and _eisel_lemire(mantissa + _ONE, power) != value):
            return 0.0, i, False
    if value >= _OVERFLOW:
        return 0.0, i, False
    if negative:
        value = -value
    return value, i, True


@kernel
def _numbers(data: ByteArray, i: int, out: FloatArray, row: int) -> int:
    """Read a row of numbers separated by single spaces; return its end, or -1 if it cannot be read."""
    for j in range(out.shape[1]):
        if j > 0:
            if data[i] != 32:
                return -1
            i += 1
        # Nearly every number has few digits, a point and no exponent; then one division is exact.
        # numba tests whether an index is negative unless it is unsigned; this loop is faster without the test.
        start = i
        negative = data[i] == 45
        if negative:
            i += 1
        at = first = np.uintp(i)
        mantissa = 0
        digit = np.int64(data[at]) - 48
        while 0 <= digit <= 9 and at - first < _SHORT:
            mantissa = mantissa * 10 + digit
            at += _STEP
            digit = np.int64(data[at]) - 48
        if data[at] == 46 and at > first:
            point = at
            at += _STEP
            digit = np.int64(data[at]) - 48
            while 0 <= digit <= 9 and at - first <= _SHORT:
                mantissa = mantissa * 10 + digit
                at += _STEP
                digit = np.int64(data[at]) - 48
            if data[at] == 32 or data[at] == 10:
                value = float(mantissa) / _TENS[at - point - _STEP]
                out[row, j] = -value if negative else value
                i = np.int64(at)
                continue
        value, i, good = _number(data, start)
        if not good:
            return -1
        out[row, j] = value
    return i


@kernel
def count_lines(data: ByteArray, start: int, stop: int) -> int:
    """Return the number of newlines in ``data[start:stop]``."""
    count = 0
    for byte in data[start:stop]:
        count += byte == 10
    return count


@kernel
def parse_rows(data: ByteArray, start: int, carriage: bool, out: FloatArray, starts: IntArray, word_ends: IntArray,
               ends: IntArray, status: ByteArray) -> None:
    """Read rows: a word, a space, numbers separated by single spaces, a newline.

    data : (bytes,) uint8; every row, the last too, ends in a newline
    start : start of the first row
    carriage : whether a carriage return before the newline belongs to the end of the line
    out : (rows, d) float32
    starts, word_ends, ends : (rows,) int64; start of each row, end of its word, end of its line without the newline
    status : (rows,) uint8; flags ODD, LONG, TRAILING
    """
    rows, dim = out.shape
    i = start
    for row in range(rows):
        starts[row] = i
        flags = 0
        # Nearly always the word contains no space, and the row can be read from left to right.
        end = i
        while data[end] != 32 and data[end] != 10:
            end += 1
        if data[end] == 32:
            word_ends[row] = end
            end = _numbers(data, end + 1, out, row)
        else:
            end = -1
        if end >= 0:
            ends[row] = end
            if data[end] == 32:
                flags |= TRAILING
                end += 1
            if carriage and data[end] == 13:
                end += 1
            if data[end] == 10:
                status[row] = flags
                i = end + 1
                continue
        # The word may contain spaces: the last dim fields are the numbers, and everything before them is the word.
        end = i
        while data[end] != 10:
            end += 1
        newline = end
        flags = 0
        if carriage and end > i and data[end - 1] == 13:
            end -= 1
        if end > i and data[end - 1] == 32:
            end -= 1
            flags |= TRAILING
        ends[row] = end
        field = end
        for _ in range(dim):
            field -= 1
            while field >= i and data[field] != 32:
                field -= 1
            if field < i:
                break
        if field < i or _numbers(data, field + 1, out, row) != end:
            flags |= ODD
        else:
            word_ends[row] = field
            before = field - 1
            while before >= i and data[before] != 32:
                before -= 1
            if before >= i:
                _, after, good = _number(data, before + 1)
                if good and after == field:
                    flags |= LONG
        status[row] = flags
        i = newline + 1


@kernel
def copy_words(data: ByteArray, starts: IntArray, ends: IntArray, out: ByteArray) -> None:
    """Write the words ``data[starts[i]:ends[i]]`` to `out`, one after the other."""
    position = 0
    for row in range(starts.shape[0]):
        for i in range(starts[row], ends[row]):
            out[position] = data[i]
            position += 1
