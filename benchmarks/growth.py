"""How time and memory grow with the number of words: GloVe 6B 50d, and up to two million words of 300 dimensions.

    pip install -e '.[bench]'
    python benchmarks/growth.py                   # the first words of GloVe: some minutes on two cores
    python benchmarks/growth.py --part wide       # up to two million words of 300 dimensions: a quarter of an hour
    python benchmarks/growth.py --part bounded    # with --max-memory: half an hour, 8 GB of disk
    python benchmarks/growth.py --only ecq        # only rows with "ecq" in their name; the others are kept

Writes results/growth.json and docs/performance.md. Linux only: memory is read from /proc. Each figure of the first
two parts is measured in new processes, after imports and with compiled kernels: the time (for GloVe the median of
three), and the growth of peak memory since the work began. The exponent is the slope of log(seconds) over log(words)
by least squares; 1 is linear.

Large tables are synthetic: normal random numbers with the spectrum of GloVe. The commands of the last part run as a
user runs them, and their memory is that of the whole process, including the interpreter.
"""

import argparse
import gzip
import hashlib
import json
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pages
from common import earlier, glove, peak_and_seconds, write

import embshrink

THREADS = 2
SIZES = (50_000, 100_000, 200_000, 400_000)
REPEATS = 3

SETUP = """
import numpy as np, embshrink, embshrink.formats, embshrink.numerics.parallel
from embshrink.methods import pipeline
embshrink.numerics.parallel.set_threads({threads})
folder, n = {folder!r}, {n}
def matrix():
    return np.load(f"{{folder}}/glove.npy", mmap_mode="r")[:n].copy()
def search(n):
    with embshrink.load(f"{{folder}}/{{n}}.ems") as emb:
        for index in range(100):
            emb.most_similar(f"word{{index}}")
"""
# name: (what is done before, what is measured)
JOBS = {
    "read text": ("embshrink.read_vectors(f'{folder}/50000.txt', embshrink.ReadOptions(limit=5000))",
                  "vectors = embshrink.read_vectors(f'{folder}/{n}.txt')"),
    "prune, 5,000 kept": ("rows = matrix(); pipeline.shrink(rows[:3000], ['prune:keep=500'])",
                          "pipeline.shrink(rows, ['prune:keep=5000'])"),
    "prune, a tenth kept": ("rows = matrix(); pipeline.shrink(rows[:3000], ['prune:keep=500'])",
                            "pipeline.shrink(rows, [f'prune:keep={n // 10}'])"),
    "pq, 25 subspaces": ("rows = matrix(); pipeline.shrink(rows[:3000], ['pq:subspaces=25'])",
                         "pipeline.shrink(rows, ['pq:subspaces=25'])"),
    "ecq": ("rows = matrix(); pipeline.shrink(rows[:3000], ['ecq:step=0.3,centroids=8'])",
            "pipeline.shrink(rows, ['ecq'])"),
    "open and search 100 times, pq": ("search(50000)", "search(n)"),
}

WIDE_SIZES = (250_000, 500_000, 1_000_000, 2_000_000)
WIDE_SETUP = """
import embshrink, embshrink.numerics.parallel
from embshrink.methods import pipeline
embshrink.numerics.parallel.set_threads({threads})
folder, n = {folder!r}, {n}
def read(n):
    return embshrink.read_vectors(f"{{folder}}/wide.bin", embshrink.ReadOptions(limit=n))
def matrix():
    return read(n).matrix
few = read(3000).matrix
def search(times):
    with embshrink.load(f"{{folder}}/wide-{{n}}.ems") as emb:
        for index in range(times):
            emb.most_similar(f"w{{index:07}}")
"""
WIDE_JOBS = {
    "read word2vec": ("", "vectors = read(n)"),
    "prune, 5,000 kept": ("rows = matrix(); pipeline.shrink(few, ['prune:keep=500'])",
                          "pipeline.shrink(rows, ['prune:keep=5000'])"),
    "pq, 50 subspaces": ("rows = matrix(); pipeline.shrink(few, ['pq:subspaces=50'])",
                         "made = pipeline.shrink(rows, ['pq:subspaces=50'])"),
    "ecq": ("rows = matrix(); pipeline.shrink(few, ['ecq:step=0.3,centroids=8'])", "pipeline.shrink(rows, ['ecq'])"),
    "open and search 100 times, pq": ("search(2)", "search(100)"),
}

WIDE_ROWS, WIDE_DIM = 2_000_000, 300
OTHER_ROWS, OTHER_DIM = 1_000_000, 100  # in formats that take longer to write
BUCKETS = 1_000_000  # of the fastText model
WIDE_BLOCK = 20_000
# name: (the source, the command's words behind it)
BOUNDED = {
    "wide, pq": ("wide.bin", "quantize --method pq"),
    "wide, pq, 1G": ("wide.bin", "quantize --method pq --max-memory 1G"),
    "wide, pq, 512M": ("wide.bin", "quantize --method pq --max-memory 512M"),
    "wide, scalar, 1G": ("wide.bin", "quantize --method scalar --set bits=4 --max-memory 1G"),
    "wide, cast, 1G": ("wide.bin", "compress cast --max-memory 1G"),
    "wide, prune and pq, 1G": ("wide.bin", "compress prune:keep=20000 pq --max-memory 1G"),
    "wide, ecq, 1G": ("wide.bin", "quantize --method ecq --max-memory 1G"),
    "wide, ecq, 512M": ("wide.bin", "quantize --method ecq --max-memory 512M"),
    "wide, ecq": ("wide.bin", "quantize --method ecq"),
    "text, 512M": ("other.txt", "quantize --method pq --max-memory 512M"),
    "gzip, 512M": ("other.txt.gz", "quantize --method pq --max-memory 512M"),
    "fastText, 512M": ("other-model.bin", "quantize --method pq --max-memory 512M"),
}
SOURCES = {
    "wide.bin": f"word2vec binary, {WIDE_ROWS:,} x {WIDE_DIM}", "other.txt": f"text, {OTHER_ROWS:,} x {OTHER_DIM}",
    "other.txt.gz": "the same text, gzip",
    "other-model.bin": f"fastText model, {OTHER_ROWS:,} words and {BUCKETS:,} buckets x {OTHER_DIM}",
}
# A process begins with the peak of the one it was forked from, and ours holds the vectors: a small one in between.
LAUNCHER = """
import json, os, sys, time
start = time.perf_counter()
pid = os.spawnvp(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - start, 1024 * usage.ru_maxrss]))
"""


def write_inputs(folder):
    """Write the input of the jobs: the matrix, and for each size a text file and a compressed file."""
    _, matrix = glove()
    np.save(f"{folder}/glove.npy", matrix)
    words = [f"word{index}" for index in range(len(matrix))]
    for n in SIZES:
        vectors = embshrink.WordVectors(words[:n], matrix[:n])
        embshrink.write_vectors(vectors.words, [vectors.matrix], f"{folder}/{n}.txt", "text", force=True)
        embshrink.compress(vectors, f"{folder}/{n}.ems", ["pq:subspaces=25"], measure=False, force=True)


def measure(job, setup, sizes, folder, repeats):
    """Return time and memory of a job at each size, and the exponent of its time."""
    before, work = job
    taken, peaks = [], []
    for n in sizes:
        code = setup.format(threads=THREADS, folder=str(folder), n=n) + before
        runs = [peak_and_seconds(code, work) for _ in range(repeats)]
        peaks.append(max(peak for peak, _ in runs))
        taken.append(statistics.median(seconds for _, seconds in runs))
    exponent = float(np.polyfit(np.log(sizes), np.log(taken), 1)[0])
    return {"words": list(sizes), "seconds": taken, "peak_growth_bytes": peaks, "exponent": exponent}


# ---------------------------------------------------------------- large tables


class Synthetic:
    """Normal random numbers whose spectrum decays, from the first column to the last, as that of GloVe 50d."""

    def __init__(self, dim):
        values = np.linalg.eigvalsh(np.cov(glove()[1][:100_000].T))[::-1]
        spectrum = np.sqrt(np.exp(np.interp(np.linspace(0, len(values) - 1, dim), np.arange(len(values)),
                                            np.log(values))))
        self._rng = np.random.default_rng(0)
        self._basis = (spectrum[:, None] * np.linalg.qr(self._rng.standard_normal((dim, dim)))[0]).astype(np.float32)

    def blocks(self, count):
        """Yield rows in blocks of some thousand."""
        for start in range(0, count, WIDE_BLOCK):
            rows = min(WIDE_BLOCK, count - start)
            yield self._rng.standard_normal((rows, len(self._basis)), np.float32) @ self._basis


def names(count):
    return [f"w{index:07}" for index in range(count)]


def write_model(path):
    """Write a fastText model with n-grams, whose rows are random as those of a table."""
    numbers, words = Synthetic(OTHER_DIM), names(OTHER_ROWS)
    with open(path, "wb") as file:
        # magic, version; dim, ws, epoch, minCount, neg, wordNgrams, loss, model, bucket, minn, maxn, lrUpdateRate, t
        file.write(struct.pack("<2i12id", 793712314, 12, OTHER_DIM, 5, 5, 1, 0, 1, 3, 2, BUCKETS, 3, 6, 100, 1e-4))
        file.write(struct.pack("<3i2q", OTHER_ROWS, OTHER_ROWS, 0, OTHER_ROWS, -1))
        for word in words:
            file.write(word.encode() + struct.pack("<BqB", 0, 1, 0))
        file.write(struct.pack("<?2q", False, OTHER_ROWS + BUCKETS, OTHER_DIM))
        for block in numbers.blocks(OTHER_ROWS + BUCKETS):
            file.write(block.tobytes())
        file.write(struct.pack("<?2q", False, 0, OTHER_DIM))


def write_source(path):
    if path.name == "wide.bin":
        embshrink.write_vectors(names(WIDE_ROWS), Synthetic(WIDE_DIM).blocks(WIDE_ROWS), path, "word2vec")
    elif path.name == "other.txt":
        embshrink.write_vectors(names(OTHER_ROWS), Synthetic(OTHER_DIM).blocks(OTHER_ROWS), path, "text")
    elif path.name == "other.txt.gz":
        with open(source(path.parent, "other.txt"), "rb") as text, gzip.open(path, "wb", 1) as packed:
            shutil.copyfileobj(text, packed, 1 << 20)
    else:
        write_model(path)


def source(folder, name):
    """Return the path of a source; write it if it is missing."""
    path = folder / name
    if not path.exists():
        write_source(path)
    return path


def run_bounded(name, words, folder):
    """Return the time, the peak memory and the output size of a command."""
    first, *rest = words.split()
    target = folder / "bounded.ems"
    command = [sys.executable, "-m", "embshrink", first, str(source(folder, name)), str(target), *rest, "--force",
               "--quiet", "--threads", str(THREADS)]
    # What a command notes about memory is not for here.
    result = subprocess.run([sys.executable, "-c", LAUNCHER, *command], check=True, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL, text=True)
    code, taken, peak = json.loads(result.stdout.splitlines()[-1])
    if code:
        sys.exit(f"{' '.join(command)} failed with exit code {code}")
    with open(target, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"source": SOURCES[name], "source_bytes": (folder / name).stat().st_size,
            "command": f"{first} SOURCE TARGET {' '.join(rest)}".strip(), "seconds": taken, "peak_bytes": peak,
            "target_bytes": target.stat().st_size, "sha256": digest}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME",
                        help="jobs with one of these in their name")
    parser.add_argument("--part", choices=("glove", "wide", "bounded"), default="glove")
    parser.add_argument("--folder", help="keeps the files between runs")
    given = parser.parse_args()
    jobs = {"glove": JOBS, "wide": WIDE_JOBS, "bounded": BOUNDED}
    found = {part: earlier("growth", part) for part in jobs}
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(given.folder or temporary)
        if given.part == "glove" and not (folder / f"{SIZES[-1]}.ems").exists():
            write_inputs(folder)
        for name, job in jobs[given.part].items():
            if not any(part.lower() in name.lower() for part in given.only):
                continue
            if given.part == "glove":
                row = measure(job, SETUP, SIZES, folder, REPEATS)
            elif given.part == "wide":
                row = measure_wide(name, job, folder)
            else:
                row = run_bounded(*job, folder)
            found[given.part][name] = row
            print(name, json.dumps(row), flush=True)
            write("growth", {"threads": THREADS, **{part: {name: found[part][name] for name in order
                                                           if name in found[part]} for part, order in jobs.items()}},
                  show=False)
    pages.fill()


def measure_wide(name, job, folder):
    path = source(folder, "wide.bin")
    for n in WIDE_SIZES if "search" in name else ():
        if not (folder / f"wide-{n}.ems").exists():
            embshrink.compress(path, folder / f"wide-{n}.ems", ["pq:subspaces=50"], measure=False,
                               options=embshrink.ReadOptions(limit=n))
    return measure(job, WIDE_SETUP, WIDE_SIZES, folder, REPEATS if "search" in name else 1)


if __name__ == "__main__":
    main()
