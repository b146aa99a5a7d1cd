"""Numbers in text: every bit as Python's float and a cast have it; kernel and Python twin agree."""

import io
import math
import subprocess
import sys
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from embshrink.errors import SourceError
from embshrink.formats import ReadOptions, read_vectors
from embshrink.formats.text import _BadRow, reread
from embshrink.kernels.text import LONG, ODD, _number, parse_rows

FLOAT32 = st.floats(width=32, allow_nan=False, allow_infinity=False)


def expected(text):
    with np.errstate(over="ignore"):
        return np.float32(float(text))


def read_one(text):
    return read_vectors(io.BytesIO(b"word " + text.encode() + b" 1\n")).matrix[0, 0]


def check(text):
    value = expected(text)
    if np.isfinite(value):
        assert read_one(text).tobytes() == value.tobytes(), text
    else:
        with pytest.raises(SourceError, match="not finite"):
            read_one(text)


@given(st.from_regex(r"[+-]?([0-9]{1,40}(\.[0-9]{0,40})?|\.[0-9]{1,40})([eE][+-]?[0-9]{1,3})?", fullmatch=True))
@settings(max_examples=400, deadline=None)
@example("-0")
@example("0e999999999999999999999")
@example("0." + "0" * 60 + "1e61")
@example("1" + "0" * 400 + "e-400")
@example("7.006492321624085e-46")
@example("7.006492321624086e-46")
@example("340282356779733661637539395458142568447.99999")
@example("340282356779733661637539395458142568448")
@example("9007199254740993")
@example("9007199791611905")  # halfway between float64, the even of which is halfway between float32
@example("9007199791611905.00000000001")
@example("88616897892843515e-1")
@example("450898513197898837e-18")
@example("2174066295879128897e-25")
@example("9007199254740993.00000000000000000000001")
@example("1e-9999999999")
@example("1e+9999999999")
def test_any_decimal(text):
    check(text)


@given(st.integers(0, 0x7F7FFFFE), st.sampled_from(["", "1", "0000000000000000001"]), st.booleans())
@settings(max_examples=300, deadline=None)
def test_halfway_between_float32(bits, more, below):
    """The hardest texts: exactly between two float32, and the least bit above or below that."""
    low, high = (float(np.uint32(b).view(np.float32)) for b in (bits, bits + 1))
    with localcontext() as context:
        context.prec = 400
        middle = (Decimal(low) + Decimal(high)) / 2
        if below:
            middle = middle.next_minus()
    digits, exponent = f"{middle:e}".split("e")
    check(f"{digits}{more if '.' in digits else ''}e{exponent}")


@given(st.integers(0x20000000, 0x5FFFFFFF), st.booleans(), st.integers(17, 25), st.integers(-1, 1))
@settings(max_examples=500, deadline=None)
def test_halfway_twice(bits, up, length, change):
    """Where one wrong bit of the float64 makes a wrong float32: a hair from halfway to the neighbour of a halfway."""
    low, high = (float(np.uint32(b).view(np.float32)) for b in (bits, bits + 1))
    middle = (low + high) / 2
    with localcontext() as context:
        context.prec = 400
        next_to_it = Decimal(math.nextafter(middle, math.inf if up else 0))
        digits, exponent = f"{(Decimal(middle) + next_to_it) / 2:e}".split("e")
    digits = digits.replace(".", "")[:length]
    check(f"{int(digits) + change}e{int(exponent) - len(digits) + 1}")


@given(st.integers(2**52, 2**53 - 1), st.integers(-200, 70))
@settings(max_examples=300, deadline=None)
def test_halfway_between_float64(mantissa, exponent):
    with localcontext() as context:
        context.prec = 400
        check(f"{Decimal(2 * mantissa + 1) * Decimal(2) ** exponent:e}")


@given(st.lists(FLOAT32, min_size=1, max_size=20), st.sampled_from([repr, "{:.17g}".format, "{:.30f}".format]))
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read(values, form):
    text = " ".join(form(float(np.float32(value))) for value in values)
    row = read_vectors(io.BytesIO(f"word {text}\n".encode())).matrix[0]
    assert row.tobytes() == np.array([expected(field) for field in text.split()], dtype=np.float32).tobytes()


def test_the_kernel_itself_settles_long_numbers():
    for text in ("0.12345678901234567890123456789", "3.14159265358979323846", "12345678901234567890e-10", "1.17e-38"):
        value, end, good = _number(np.frombuffer(text.encode() + b"\n", dtype=np.uint8), 0)
        assert good and end == len(text) and value == float(text)


def test_long_numbers_take_no_quadratic_time():
    digits = "1." + "0" * 2_000_000 + "1"
    assert read_one(digits) == 1
    with pytest.raises(SourceError, match="not a decimal number"):
        read_one(digits + "x")


FIELD = st.sampled_from([b"1", b"-0.5", b"1e5", b".5", b"3.", b"x", b"", b"nan", b"1,5", b"-", b"1e",
                         b"0.1000000000000001", b"1e39", b"\xc2\xa0", b"1\r", b"+7"])


@given(st.lists(FIELD, min_size=1, max_size=7), st.integers(1, 4))
@settings(max_examples=500, deadline=None)
def test_kernel_agrees_with_the_rules_in_python(fields, dim):
    row = b" ".join(fields)
    out = np.full((1, dim), np.nan, dtype=np.float32)
    starts, word_ends, ends = (np.zeros(1, dtype=np.int64) for _ in range(3))
    status = np.zeros(1, dtype=np.uint8)
    parse_rows(np.frombuffer(row + b"\n", dtype=np.uint8), 0, False, out, starts, word_ends, ends, status)
    try:
        word, values = reread(row, dim)
    except _BadRow:
        assert status[0] & ODD
        return
    if status[0] & ODD:
        assert not np.isfinite(values).all()  # nothing else of these is left to Python
        return
    assert row[: word_ends[0]] == word
    assert out[0].tobytes() == values.tobytes()
    last = word.rpartition(b" ")[2]
    assert bool(status[0] & LONG) == (b" " in word and last in (b"1", b"-0.5", b"1e5", b".5", b"3.", b"+7",
                                                                b"0.1000000000000001"))


def test_without_compilation(tmp_path, subprocess_env):
    """Pure Python gives the same bits and no warning, whatever scalar types are at work."""
    path = tmp_path / "vectors.txt"
    path.write_bytes(b"a 1e-05 0.12345678901234567890123 -3.4028235e38\nb c 9007199254740993 7e-46 1e-400\n"
                     b"d 123456789012345678901234567890 .5 -18446744073709551615\n")
    code = ("import sys; from embshrink.formats import read_vectors; v = read_vectors(sys.argv[1]); "
            "print(v.matrix.tobytes().hex(), v.words.raw)")
    run = subprocess.run([sys.executable, "-W", "error", "-c", code, str(path)], capture_output=True, text=True,
                         check=True, env={**subprocess_env, "NUMBA_DISABLE_JIT": "1"})
    vectors = read_vectors(path)
    assert run.stdout.strip() == f"{vectors.matrix.tobytes().hex()} {vectors.words.raw}"
    assert not run.stderr


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same(threads):
    from embshrink.numerics import parallel

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(60_000, 5)).round(5)
    data = "".join(f"w{i} {' '.join(map(str, row))}\n" for i, row in enumerate(rows.tolist())).encode()
    assert len(data) > 2 << 20  # several parts
    parallel.set_threads(threads)
    vectors = read_vectors(io.BytesIO(data), ReadOptions(expect_rows=60_000))
    np.testing.assert_array_equal(vectors.matrix, rows.astype(np.float32))
    assert vectors.words[59_999] == "w59999"
