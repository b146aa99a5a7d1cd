"""ecq: what is particular to it. docs/format.md has the rules; second_reader.py follows them independently."""

import hashlib
import math
import re
import subprocess
import sys
from dataclasses import dataclass

import naive
import numpy as np
import pytest
import second_reader
from conftest import make_vectors

from embshrink import FormatError, StepError, WordVectors, compress, load
from embshrink.methods import registry
from embshrink.methods.base import Context
from embshrink.methods.ecq import decoder as ecq_decoder
from embshrink.methods.ecq.blocks import Blocks
from embshrink.methods.ecq.coder import SLOPES, Coder
from embshrink.methods.ecq.decoder import Decoder
from embshrink.methods.ecq.model import (
    BIN_FIRST,
    BIN_RAW_BITS,
    LARGEST,
    MAX_BINS,
    TOTAL,
    UNIT,
    LabelCode,
    Model,
    bucket_count,
    bucket_of,
    transitions,
    value_of,
)
from embshrink.methods.ecq.reader import Reader
from embshrink.methods.ecq.statistics import Statistics
from embshrink.numerics import parallel


@dataclass
class Coded:
    """A matrix, what a codec made of it, and what is read of that."""

    matrix: np.ndarray
    step: object
    state: dict
    codes: dict

    @property
    def decoder(self):
        return Decoder(self.step, self.codes, self.state)

    @property
    def decoded(self):
        return self.step.decode(self.codes, self.state, np.arange(len(self.matrix)))

    @property
    def nbytes(self):
        return sum(part.nbytes for parts in (self.state, self.codes) for part in parts.values())

    @property
    def errors(self):
        """The squared error of each row."""
        return np.square(self.decoded.astype(np.float64) - self.matrix).sum(axis=1)


def context(n):
    return Context(1 / np.arange(1, n + 1) / sum(1 / np.arange(1, n + 1)), np.random.default_rng(0))


def coded(text, matrix):
    matrix = np.ascontiguousarray(matrix, np.float32)
    step = registry.parse(text).resolve(*matrix.shape)
    state = step.fit(matrix, context(len(matrix)))
    step = step.fitted(state)
    codes = step.encode(matrix, state, context(len(matrix)))
    step.check(codes, state, *matrix.shape)
    step.check_codes(codes, state)
    return Coded(matrix, step, state, codes)


def read_all(step, codes, state):
    """Look at everything, as the check of a file does."""
    step.check_codes(codes, state)
    return step.decode(codes, state, np.arange(int(codes["sizes"][1])))


def heavy_tailed(n=700, d=9, seed=0):
    """Return rows that are hard to code: some are ten thousand times the others."""
    rng = np.random.default_rng(seed)
    matrix = rng.standard_normal((n, d)) * 10 ** rng.uniform(-1, 3, (n, 1)) * np.linspace(1, 0.1, d)
    return matrix.astype(np.float32)


def read_thrice(reader, blocks, number):
    """Read a block by the kernel, by numpy in lockstep and by plain Python; return what they agree on, or None."""
    found = []
    for kernel in (True, False):
        try:
            found.append(reader.read(blocks, np.array([number]), kernel=kernel))
        except FormatError as error:
            found.append(str(error))
    rows = min(reader.block, reader.rows - number * reader.block)
    try:
        labels, values = reader.read_one(blocks, number, rows)
    except FormatError as error:
        assert found == [str(error)] * 2
        return None
    for others, more in found:
        assert np.array_equal(others[0, :rows], labels if labels else np.zeros(rows))
        assert np.array_equal(more[0, :rows], values)
        assert not more[0, rows:].any()
    return found[0]


# ---------------------------------------------------------------- three readers


@pytest.mark.parametrize("trellis", [0, 4, 8])
@pytest.mark.parametrize("text", ["bits=2000,centroids=1,block=16", "step=1,centroids=3,block=7",
                                  "step=0.3,centroids=150,block=1", "step=0.5,block=100"])
def test_three_readers_agree(text, trellis):
    made = coded(f"ecq:{text},trellis={trellis}", heavy_tailed())
    decoder, block = made.decoder, made.step.block
    tables = [(decoder.row_reader, decoder.row_blocks, 700),
              (decoder.centroid_reader, decoder.centroid_blocks, decoder.centroid_count)]
    for reader, blocks, rows in tables[: 1 + (decoder.centroid_count > 0)]:
        numbers = np.arange(-(-rows // block))
        whole = reader.read(blocks, numbers)
        lockstep = reader.read(blocks, numbers, kernel=False)
        assert all(np.array_equal(one, two) for one, two in zip(whole, lockstep))
        some = numbers[:: 1 + len(numbers) // 9]
        for number in some:
            assert np.array_equal(read_thrice(reader, blocks, number)[1][0], whole[1][number])
        chosen = reader.read(blocks, some, kernel=False)
        assert np.array_equal(chosen[1], whole[1][some])
        part = reader.read_one(blocks, int(some[-1]), 1)[1]  # the first row of a block, without the others
        assert np.array_equal(part[0], whole[1][some[-1], 0])


def test_they_were_given_escapes_and_sizes_with_raw_bits():
    """What makes the test above worth something."""
    made = coded("ecq:bits=2000,centroids=1,trellis=0", heavy_tailed())
    sizes = np.abs(made.decoder.row_reader.read(made.decoder.row_blocks, np.arange(44))[1]) // UNIT
    for size, raw in zip(BIN_FIRST[16:], BIN_RAW_BITS[16:]):
        assert ((sizes >= size) & (sizes < size + (1 << raw))).any()
    assert (sizes > LARGEST).any()


@pytest.mark.parametrize("trellis", [0, 4, 8])
def test_escapes_say_any_size(trellis):
    """Zero, too, and where there is nothing else."""
    table = np.zeros((2 if trellis else 1, 1, 2), np.uint16)
    table[:, :, 1] = TOTAL
    coder = Coder(table, np.zeros((*table.shape[:2], 3), np.int8), trellis, np.zeros(40, np.int64))
    sizes = np.random.default_rng(0).choice([0, 0, 1, -1, 2, -3, 255, -4096, 32_766, -32_767], (20, 40))
    none = np.zeros(20, np.int64)
    data, lengths = coder.write(sizes.astype(np.int32), none, none, LabelCode(none[:0], 0), 20)
    reader = Reader(coder.model, np.zeros(40, np.int16), 20, 20, [0])
    blocks = Blocks("data", np.frombuffer(data, np.uint8), lengths.astype(np.uint32), np.zeros(1, np.uint64), 0)
    values = read_thrice(reader, blocks, 0)[1][0]
    for row, given in zip(values, sizes):
        state = 0
        for value, size in zip(row, given):
            assert value == np.sign(size) * value_of(abs(size), state & 1, trellis)
            state = transitions(trellis)[state][size & 1]


@pytest.mark.parametrize("seed", range(18))
def test_three_readers_agree_on_nonsense(seed):
    """Any tables and any bytes: the same numbers from all, or the same refusal."""
    rng = np.random.default_rng(seed)
    trellis, levels, sizes = (int(rng.choice(choices)) for choices in ([0, 4, 8], 129, MAX_BINS + 1))
    levels, sizes = max(levels, 1), max(sizes, 1)
    table = np.zeros(((2 if trellis else 1), levels, sizes + 1), np.uint16)
    for row in table.reshape(-1, sizes + 1):
        sharp = rng.random(sizes) ** rng.integers(1, 60)
        row[1:sizes] = sharp[1:] / max(sharp.sum(), 1e-9) * rng.choice([0, 600, 2000])
        row[0] = rng.integers(0, TOTAL - 2 * int(row[1:sizes].sum()) + 1)
        row[sizes] = TOTAL - 2 * int(row[1:sizes].sum()) - row[0]
    model = Model(table, rng.integers(-63, 64, (*table.shape[:2], 3)).astype(np.int8), trellis)
    n, m, block, k = int(rng.integers(1, 700)), int(rng.integers(1, 9)), int(rng.choice([1, 5, 300])), 70
    heads = rng.multinomial(TOTAL, np.full(35, 1 / 35)).astype(np.uint16)
    whole = np.iinfo(np.int16)
    given = (rng.integers(whole.min, whole.max + 1, bucket_count(n)), rng.integers(-128, 128, k), heads)
    base = rng.integers(whole.min, whole.max + 1, m) // rng.choice([1, 4, 64])
    reader = [Reader(model, base, n, block, *given), Reader(model, base, n, block, given[0]),
              Reader(model, base, n, block, unit=32)][seed % 3]
    count = -(-n // block)
    data = rng.integers(0, 256, 40 * count).astype(np.uint8)
    lengths = rng.integers(0, 40, count).astype(np.uint8)
    lengths[0] = 2
    data[:2] = 0x40, 0  # an end where it should be, if nothing takes a bit
    starts = (np.cumsum(lengths) - lengths)[::64].astype(np.uint64)
    blocks = Blocks("data", data, lengths, starts, 0)
    for number in range(min(count, 40)):
        read_thrice(reader, blocks, number)


def test_blocks_that_take_no_bits_are_read():
    table = np.zeros((2, 1, 2), np.uint16)
    table[:, :, 0] = TOTAL
    reader = Reader(Model(table, np.zeros((2, 1, 3), np.int8), 8), np.zeros(3, np.int16), 100, 4096, [0])
    blocks = Blocks("data", np.array([0x40, 0], np.uint8), np.array([2], np.uint8), np.zeros(1, np.uint64), 0)
    assert not read_thrice(reader, blocks, 0)[1].any()


@pytest.mark.parametrize("where", ["data", "lengths", "starts"])
def test_a_changed_byte_is_refused_with_its_block_and_no_other(where):
    made = coded("ecq:step=0.2,centroids=20,block=4", make_vectors(400, 6).matrix)
    whole, rng = made.decoder.row_reader.read(made.decoder.row_blocks, np.arange(100))[1], np.random.default_rng(0)
    for _ in range(25):
        codes = {name: part.copy() for name, part in made.codes.items()}
        raw = codes[where].view(np.uint8)
        raw[rng.integers(raw.size)] ^= 1 << rng.integers(8)
        with pytest.raises(FormatError, match=r"codes\.data"):
            read_all(made.step, codes, made.state)
        reader, blocks, refused = made.decoder.row_reader, Decoder(made.step, codes, made.state).row_blocks, []
        for number in range(100):
            try:
                found = reader.read_one(blocks, number, 4)[1]
                # Damage may say that a block lies where another one does; only a check of all finds that.
                assert np.array_equal(found, whole[number]) or (where != "data" and found in whole.tolist())
            except FormatError as error:
                assert re.search(f"block {number} of codes.data does not|a block of codes.data lies past", str(error))
                refused.append(number)
        for kernel in (True, False):
            with pytest.raises(FormatError):
                reader.read(blocks, np.array(refused[:1]), kernel=kernel)
        assert len(refused) == 1 if where == "data" else 1 <= len(refused) <= 64


@pytest.mark.parametrize("change", [{"starts": [1]}, {"starts": [2**63 - 1]}, {"starts": [2**64 - 1]}, {"data": 9},
                                    {"least": 1 << 40}, {"lengths": [2**32 - 1]}])
def test_blocks_outside_their_section_are_refused_before_any_is_read(change):
    given = {"data": 10, "lengths": [5], "starts": [0], "least": 5, **change}
    blocks = Blocks("data", np.zeros(given["data"], np.uint8), np.array(given["lengths"], np.uint32),
                    np.array(given["starts"], np.uint64), given["least"])
    for ask in (lambda: blocks.span(0), lambda: blocks.spans(np.array([0])), blocks.check):
        with pytest.raises(FormatError, match="a block of data lies past its end"):
            ask()


def test_centroids_that_are_not_there_are_refused(monkeypatch):
    made = coded("ecq:step=0.3,centroids=69", make_vectors(400, 6).matrix)
    state = {**made.state, "index": np.zeros(35, np.uint16)}
    state["index"][34] = TOTAL  # numbers 68 and 69
    codes = made.codes
    decoder = Decoder(made.step, codes, state)
    assert len(decoder.row_reader.centroid_levels) == 70
    monkeypatch.setitem(sys.modules, "embshrink.kernels.ecq", None)  # it reads blocks to their ends
    with pytest.raises(FormatError, match="refers to a centroid that does not exist|does not end"):
        read_all(made.step, codes, state)
    with pytest.raises(FormatError, match=r"refers to a centroid that does not exist \(expected < 69, found 69\)"):
        for row in range(400):  # which does not read to the end of a block
            decoder.decode(np.array([row // 16 * 16]))


def test_reading_in_pieces_changes_nothing(monkeypatch):
    made = coded("ecq:step=0.2,centroids=20,block=7", make_vectors(3000, 6).matrix)
    right = made.decoded
    monkeypatch.setattr(ecq_decoder, "MOST_NUMBERS", 500)
    monkeypatch.setattr(ecq_decoder, "FEW_WHILE_READY", 100)
    rows = np.random.default_rng(0).integers(3000, size=2700)
    assert np.array_equal(made.decoder.decode(rows), right[rows])
    read_all(made.step, made.codes, made.state)


@pytest.mark.parametrize("few", [0, 1 << 40])
def test_any_rows_in_any_order_at_any_number_of_threads(few, monkeypatch):
    made = coded("ecq:step=0.2,centroids=70", make_vectors(5000, 4).matrix)
    right = made.decoded
    if few:
        monkeypatch.setitem(sys.modules, "embshrink.kernels.ecq", None)
    monkeypatch.setattr(ecq_decoder, "FEW_WHILE_READY", few)
    rows = np.random.default_rng(0).integers(5000, size=4100)
    for threads in (1, 3):
        parallel.set_threads(threads)
        assert np.array_equal(made.decoder.decode(rows), right[rows])
    assert made.decoder.decode(rows[:0]).shape == (0, 4)
    for wrong in ([5000], [-1], [3, 5000]):
        with pytest.raises(IndexError, match="rows are 0 to 4999"):
            made.decoder.decode(np.array(wrong))


TINY = """
import sys, hashlib
import numpy as np
sys.path.insert(0, "tests")
from test_ecq import coded
made = coded("ecq:step=0.3,centroids=3,block=7", np.random.default_rng(0).standard_normal((40, 4)))
for parts in (made.state, made.codes):
    print(hashlib.sha256(b"".join(parts[name].tobytes() for name in sorted(parts))).hexdigest())
found = made.decoder.row_reader.read(made.decoder.row_blocks, np.arange(6))
print([hashlib.sha256(part.tobytes()).hexdigest() for part in found])
"""


def test_the_same_bytes_without_a_compiler(subprocess_env):
    made = coded("ecq:step=0.3,centroids=3,block=7", np.random.default_rng(0).standard_normal((40, 4)))
    run = subprocess.run([sys.executable, "-c", TINY], env={**subprocess_env, "NUMBA_DISABLE_JIT": "1"}, text=True,
                         capture_output=True, check=True, cwd=second_reader.__file__.rpartition("tests")[0])
    sums = [hashlib.sha256(b"".join(parts[name].tobytes() for name in sorted(parts))).hexdigest()
            for parts in (made.state, made.codes)]
    read = made.decoder.row_reader.read(made.decoder.row_blocks, np.arange(6))
    assert run.stdout.splitlines() == [*sums, str([hashlib.sha256(part.tobytes()).hexdigest() for part in read])]


# ---------------------------------------------------------------- choices


def coder_of(trellis, sizes=6, seed=0):
    """Return a coder with tables of few sizes, shifts, and levels that a row does not move."""
    table, shifts = Statistics.initial(trellis).rounded(8, 40, sizes)
    rng = np.random.default_rng(seed)
    table[:, 5, 3] = 0  # a size that only an escape says
    table[:, 5, 0] = TOTAL - 2 * table[:, 5, 1:-1].sum(axis=1) - table[:, 5, -1]
    shifts = rng.integers(-20, 21, shifts.shape).astype(np.int8)
    coder = Coder(table, shifts, trellis, rng.integers(0, 24 << 8, 4))
    coder.scores[:] = 0
    return coder


def cost_and_value(coder):
    """Return the functions price(context, size) and value(context, size) as docs/format.md has them."""
    sizes = coder.price.shape[1] - 1

    def spelled(at, size):
        return size < sizes and coder.model.frequencies[at, max(2 * size - 1, 0)] > 0

    def price(at, size):
        if not spelled(at, size):
            return 12 - math.log2(coder.model.frequencies[at, -1]) + 16
        return 12 - math.log2(coder.model.frequencies[at, max(2 * size - 1, 0)])

    def value(at, size):
        if spelled(at, size):
            return coder.model.values[at, max(2 * size - 1, 0)]
        return value_of(size, at // coder.model.level_count, coder.trellis)

    return price, value


def cost_of(coder, target, sizes, contexts, slope):
    price, value = cost_and_value(coder)
    state, cost = 0, 0.0
    for number, size, context_ in zip(target, np.abs(sizes), contexts):
        at = context_[state & 1]
        cost += (abs(number) - value(at, size)) ** 2 + slope * price(at, size)
        state = transitions(coder.trellis)[state][size & 1]
    return cost


@pytest.mark.parametrize("trellis", [4, 8])
@pytest.mark.parametrize("slope", [0.05, 0.14, 0.5])
def test_the_trellis_finds_the_least_of_all_sequences(trellis, slope):
    coder = coder_of(trellis)
    levels, height = np.array([0, 700, -3000, 90_000, 1 << 8, 5 << 8]), coder.model.level_count
    targets = np.random.default_rng(1).laplace(0, 130, (len(levels), 4))
    chosen = coder.choose(targets, levels, slope)
    assert np.array_equal(np.sign(chosen), np.sign(targets) * (chosen != 0))
    price, value = cost_and_value(coder)
    for row, target in enumerate(targets):
        at = np.clip((coder.axis_levels + levels[row]) >> 8, 0, height - 1)
        contexts = [(level, height + level) for level in at]
        cost = cost_of(coder, target, chosen[row], contexts, slope * UNIT * UNIT)
        least = naive.choose_sizes(target, contexts, price, value, transitions(trellis), slope * UNIT * UNIT, 7)
        assert cost == pytest.approx(least, rel=1e-12)


def test_without_a_trellis_each_number_is_rounded_by_itself():
    """To the nearest, the one below, or zero, whichever costs least; with levels that move."""
    made = coded("ecq:step=0.3,trellis=0,centroids=1", make_vectors(300, 8).matrix)
    coder = Coder(made.state["tables"], made.state["shifts"], 0, made.state["base"][0])
    price, value = cost_and_value(coder)
    targets = np.random.default_rng(1).laplace(0, 90, (100, 8))
    chosen = coder.choose(targets, np.zeros(100, np.int64), SLOPES[0])
    for target, sizes in zip(targets, chosen):
        level = 0
        for j, (number, size) in enumerate(zip(target, sizes)):
            at = min(max((int(coder.axis_levels[j]) + level) >> 8, 0), coder.model.level_count - 1)
            nearest = int(abs(number) / UNIT + 0.5)
            costs = {option: (abs(number) - value(at, option)) ** 2 + SLOPES[0] * UNIT * UNIT * price(at, option)
                     for option in {nearest, max(nearest - 1, 0), 0}}
            assert abs(size) == min(costs, key=costs.get)
            level += int(coder.gains[j]) * int(coder.scores[at, min(abs(size), coder.scores.shape[1] - 1)]) >> 12


@pytest.mark.parametrize("trellis", [4, 8])
def test_codes_of_the_trellis_are_ungerboecks(trellis):
    """What leaves a state, and what comes to one, has both parities; the least distance is that of his tables."""
    table = transitions(trellis)
    for state in range(trellis):
        assert len(set(table[state])) == 2
        came = [(before, parity) for before in range(trellis) for parity in (0, 1) if table[before, parity] == state]
        assert len(came) == 2
    # Two paths that part and meet again: the least sum of squares between their unions' values, in steps.
    subsets = {(0, 0): 0, (0, 1): 2, (1, 1): 1, (1, 0): 3}  # by quantizer and parity, modulo 4 steps
    gap = np.array([0, 1, 4, 1])
    distance = {}
    for state in range(trellis):
        distance[table[state, 0], table[state, 1]] = 4
    least = 1 << 30
    for _ in range(30):
        after = {}
        for (one, two), so_far in distance.items():
            for first in (0, 1):
                for second in (0, 1):
                    total = so_far + gap[(subsets[one & 1, first] - subsets[two & 1, second]) % 4]
                    pair = int(table[one, first]), int(table[two, second])
                    if pair[0] == pair[1]:
                        least = min(least, total)
                    elif total < after.get(pair, least):
                        after[pair] = total
        distance = after
    assert least == {4: 9, 8: 10}[trellis]


# ---------------------------------------------------------------- rate


class Counting(second_reader.Coder):
    """Adds up what the symbols it takes cost by their tables."""

    bits = 0.0

    def take(self, table):
        symbol = super().take(table)
        Counting.bits += 12 - math.log2(table[symbol][0])
        return symbol


@pytest.mark.parametrize("text", ["ecq:step=0.3,centroids=20,block=100", "ecq:step=0.1,trellis=0,block=16",
                                  "ecq:step=0.001,centroids=1,block=7"])
def test_blocks_take_what_their_tables_say_and_their_ends(text, vectors, tmp_path, monkeypatch):
    compress(vectors, tmp_path / "v.ems", text, measure=False)
    second = second_reader.SecondReader(tmp_path / "v.ems")
    monkeypatch.setattr(second_reader, "Coder", Counting)
    for number, block in enumerate(second.blocks):
        Counting.bits = 0.0
        second._block_rows(number)
        spent = 8 * len(block) - Counting.bits
        assert 14 - 0.005 * Counting.bits <= spent <= 22 + 0.005 * Counting.bits


@pytest.mark.parametrize("text", ["ecq:step=0.3,centroids=150,block=7", "ecq:step=0.2,trellis=4,weights=zipf:1",
                                  "ecq:step=0.1,trellis=0,norms=true"])
def test_a_second_reader_decodes_all_buckets(text, tmp_path):
    table = make_vectors(1100, 6)  # four buckets
    compress(table, tmp_path / "v.ems", text, measure=False)
    second = second_reader.SecondReader(tmp_path / "v.ems")
    rows = [0, 254, 255, 256, 510, 511, 1022, 1023, 1099]
    own = np.array([second.vector(row) for row in rows], np.float32)
    with load(tmp_path / "v.ems", verify="full") as emb:
        assert np.array_equal(own, emb.decode_rows(np.array(rows)))


@pytest.mark.parametrize("bits", [20, 33, 64, 200])
@pytest.mark.parametrize("more", ["", ",trellis=0,norms=true", ",centroids=1,block=5"])
def test_bits_are_kept(bits, more):
    made = coded(f"ecq:bits={bits}{more}", gaussian(4000, 16)[0])
    assert 0.93 * bits * 4000 / 8 - 400 <= made.nbytes <= 1.01 * bits * 4000 / 8


def test_bits_are_kept_where_centroids_take_many_of_them():
    made = coded("ecq:bits=64,centroids=128", make_vectors(4000, 30).matrix)
    assert made.nbytes <= 1.01 * 64 * 4000 / 8


def test_too_few_bits_are_refused_with_the_least():
    matrix = make_vectors(300, 8).matrix
    with pytest.raises(StepError, match=r"ecq needs more bits per row \(expected >= [\d.]+, found 3\.0") as caught:
        coded("ecq:bits=3,centroids=1", matrix)
    least = float(caught.value.expected.removeprefix(">= "))
    assert 3 < least < 40
    assert coded(f"ecq:bits={least * 1.02},centroids=1", matrix).nbytes <= least * 1.02 * 300 / 8


# ---------------------------------------------------------------- error


def gaussian(n, d, seed=0):
    """Return rows of a known spectrum, turned at random, and the variances."""
    rng = np.random.default_rng(seed)
    spread = 2.0 ** -np.linspace(0, 3, d)
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    return (rng.standard_normal((n, d)) * spread @ turn).astype(np.float32), spread**2


def bound(variances, bits):
    """Return the least error a row that so many bits can leave: reverse water-filling, by bisection."""
    low, high = 0.0, float(variances.max())
    for _ in range(100):
        water = (low + high) / 2
        rate = np.maximum(0, np.log2(variances / water)).sum() / 2
        low, high = (water, high) if rate > bits else (low, water)
    return np.minimum(variances, low).sum()


@pytest.mark.parametrize("trellis, symbols, everything", [(8, 0.95, 1.3), (4, 1.0, 1.35), (0, 1.6, 1.85)])
def test_error_is_near_the_bound_of_a_gaussian(trellis, symbols, everything):
    """In decibels; at two bits a number, with and without tables and the ends of blocks."""
    matrix, variances = gaussian(20_000, 20)
    made = coded(f"ecq:bits=40,trellis={trellis},centroids=1,block=256", matrix)
    lost, blocks = made.errors.mean(), len(made.codes["lengths"])
    for bits, decibels in ((8 * len(made.codes["data"]) - 18 * blocks, symbols), (8 * made.nbytes, everything)):
        assert 0 < 10 * math.log10(lost / bound(variances, bits / 20_000)) < decibels


def test_error_falls_as_bits_rise():
    matrix = gaussian(3000, 12)[0]
    errors = [coded(f"ecq:bits={bits},centroids=1", matrix).errors.sum() for bits in (18, 24, 36, 72, 140)]
    assert errors == sorted(errors, reverse=True)


def test_norms_keep_the_mean_length():
    matrix = gaussian(4000, 12)[0] + 0.1
    lengths = np.linalg.norm(matrix, axis=1)
    kept, shrunk = (np.sqrt(np.square(coded(f"ecq:bits=12,norms={norms}", matrix).decoded).sum(axis=1).mean()
                            / np.square(lengths).mean()) for norms in ("true", "false"))
    assert kept == pytest.approx(1, abs=0.01)
    assert shrunk < 0.97


def test_weights_spend_on_the_first_rows():
    matrix = gaussian(3000, 8)[0]
    plain, weighed = (coded(f"ecq:bits=24,weights={weights}", matrix).errors for weights in ("none", "zipf:1"))
    assert weighed[:255].mean() < 0.2 * weighed[-2000:].mean()
    assert weighed[:255].mean() < 0.5 * plain[:255].mean()
    assert plain[:255].mean() == pytest.approx(plain[-2000:].mean(), rel=0.2)
    counts = coded("ecq:bits=24,weights=counts:0.5", matrix)  # which are Zipf's here
    assert np.array_equal(counts.decoded, coded("ecq:bits=24,weights=zipf:0.5", matrix).decoded)


def test_centroids_help_where_there_are_clusters():
    matrix = make_vectors(2500, 10, clusters=16).matrix
    errors = [coded(f"ecq:bits=24,centroids={k}", matrix).errors.sum() for k in (1, 16)]
    assert errors[1] < 0.8 * errors[0]
    assert coded("ecq:bits=24", matrix).step.centroids > 1


# ---------------------------------------------------------------- odd tables


def test_a_huge_row_keeps_its_direction():
    matrix = gaussian(3000, 10)[0]
    matrix[1234] *= 1000
    for text in ("ecq:bits=30", "ecq:bits=30,trellis=0,weights=zipf:1", "ecq:step=0.3"):
        row = coded(text, matrix).decoded[1234]
        assert row @ matrix[1234] / np.linalg.norm(row) / np.linalg.norm(matrix[1234]) > 0.99


@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (2, 700), (40, 1), (3, 3)])
def test_tables_of_any_shape(shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    made = coded("ecq:step=0.01", matrix)
    assert np.isfinite(made.decoded).all()


def test_zero_rows_stay_zero():
    matrix = gaussian(600, 8)[0]
    matrix[::3] = 0
    decoded = coded("ecq:step=0.05,centroids=1", matrix).decoded
    assert np.abs(decoded[::3]).max() < 0.1
    assert not coded("ecq", np.zeros((50, 5))).decoded.any()


@pytest.mark.parametrize("text", ["ecq:bits=300", "ecq:step=0.01", "ecq:step=0.01,trellis=0",
                                  "ecq:step=0.01,centroids=2"])
def test_what_all_rows_share_is_kept(text):
    """Also along axes on which they do not differ."""
    rng = np.random.default_rng(0)
    for matrix in (np.repeat(rng.standard_normal((1, 9)), 40, axis=0), rng.standard_normal((1, 30)),
                   np.concatenate([gaussian(300, 5)[0], np.full((300, 1), 7)], axis=1)):
        assert np.abs(coded(text, matrix).decoded - matrix).max() < 0.05


def test_as_many_centroids_as_rows():
    made = coded("ecq:step=0.2,centroids=60", make_vectors(60, 5).matrix)
    assert np.abs(made.decoded - made.matrix).max() < 0.4


def test_the_smallest_step_holds_the_largest_numbers_of_the_first_rows():
    made = coded("ecq:bits=2000,weights=zipf:2,centroids=1", gaussian(6000, 4)[0])
    assert np.abs(made.decoded - made.matrix).max() < 0.05


@pytest.mark.parametrize("step", ["0", "1e-40", "0.00001"])
@pytest.mark.parametrize("more", ["", ",trellis=0", ",centroids=3"])
def test_steps_that_are_too_small_are_refused(step, more):
    with pytest.raises(StepError, match=r"the step of ecq is too small for .*vectors \(expected >= 0\.000\d+, found"):
        coded(f"ecq:step={step}{more}", gaussian(300, 5)[0])


# ---------------------------------------------------------------- small parts


def test_buckets():
    rows = np.arange((1 << 20) + 1)
    assert np.array_equal(bucket_of(rows), naive.bucket_of(rows))
    for n in (1, 2, 255, 256, 510, 511, 512, 1023, 1 << 16, 1 << 20, (1 << 40) - 1, 1 << 40):
        assert bucket_count(n) == int(naive.bucket_of(n - 1)) + 1
    assert bucket_count(0) == 1


def test_sizes_follow_one_another():
    ends = BIN_FIRST + (1 << BIN_RAW_BITS)
    assert BIN_FIRST[0] == 0
    assert np.array_equal(BIN_FIRST[1:], ends[:-1])
    assert ends[-1] == LARGEST


@pytest.mark.parametrize("text, message", [
    ("ecq:trellis=5", "ecq cannot take trellis=5"),
    ("ecq:weights=zipf:3", r"ecq cannot take weights=zipf:3 \(expected none, zipf:A or counts:A"),
    ("ecq:weights=rank", "ecq cannot take weights=rank"),
    ("ecq:bits=inf", "ecq cannot take bits=inf"),
    ("ecq:step=inf", "ecq cannot take step=inf"),
    ("ecq:centroids=5000", "ecq cannot take centroids=5000"),
])
def test_it_refuses(text, message):
    with pytest.raises(StepError, match=message):
        registry.parse(text).resolve(400, 10)


def test_the_file_says_what_was_found(tmp_path):
    table = WordVectors([f"w{i}" for i in range(2000)], make_vectors(2000, 10).matrix)
    report = compress(table, tmp_path / "v.ems", "ecq:bits=30", measure=False)
    assert re.fullmatch(r"ecq:bits=30,step=0\.\d+,centroids=\d+", report.steps[0])
