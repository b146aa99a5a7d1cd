"""How time and memory grow with words: GloVe 6B 50d at four sizes, and a table of two million words of 300 numbers.

    pip install -e '.[bench]'
    python benchmarks/growth.py               # about ten minutes on two cores
    python benchmarks/growth.py --large       # two million words instead: 3 GB of disk, about an hour
    python benchmarks/growth.py --only ecq    # what has that in its name; the rest is kept

Writes results/growth.json and docs/performance.md. Linux only: memory is read from /proc. Each figure is of fresh
processes, in which imports were done and kernels compiled before: the median time of three, and by how much the most
memory held at once grew since the work began. The exponent is the slope of log(seconds) over log(words) by least
squares: 1 is linear.

The large table is synthetic: normal numbers with the spectrum of GloVe's, written some thousand rows at a time. Its
commands run as a user would run them, and their memory is all that the process held, the interpreter counted.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import performance_page
from common import earlier, glove, peak_and_seconds, write

import embshrink

THREADS = 2
SIZES = (50_000, 100_000, 200_000, 400_000)
REPEATS = 3

SETUP = """
import numpy as np, embshrink, embshrink.formats, embshrink.parallel
from embshrink import pipeline
embshrink.parallel.set_threads({threads})
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

LARGE_ROWS, LARGE_DIM = 2_000_000, 300
LARGE_BLOCK = 20_000
LIMIT = "1G"
# name: the command's words; {source}, {target}
LARGE = {
    "read and count: plan": ["plan", "{source}", "pq", "--json"],
    "quantize, ecq": ["quantize", "{source}", "{target}", "--max-memory", LIMIT],
    "quantize, pq": ["quantize", "{source}", "{target}", "--method", "pq", "--max-memory", LIMIT],
    "quantize, scalar 4 bit": ["quantize", "{source}", "{target}", "--method", "scalar", "--set", "bits=4",
                               "--max-memory", LIMIT],
    "compress, prune to 20,000, then pq": ["compress", "{source}", "{target}", "prune:keep=20000", "pq",
                                           "--max-memory", LIMIT],
    "quantize, pq, without a limit": ["quantize", "{source}", "{target}", "--method", "pq"],
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
    """Write what the jobs read: the matrix, and for each size a text file and a shrunk one."""
    _, matrix = glove()
    np.save(f"{folder}/glove.npy", matrix)
    words = [f"word{index}" for index in range(len(matrix))]
    for n in SIZES:
        vectors = embshrink.WordVectors(words[:n], matrix[:n])
        embshrink.write_vectors(vectors.words, [vectors.matrix], f"{folder}/{n}.txt", "text", force=True)
        embshrink.compress(vectors, f"{folder}/{n}.ems", ["pq:subspaces=25"], measure=False, force=True)


def measure(name, folder):
    """Return what a job takes at each size, and how its time grows."""
    before, work = JOBS[name]
    taken, peaks = [], []
    for n in SIZES:
        setup = SETUP.format(threads=THREADS, folder=str(folder), n=n) + before
        runs = [peak_and_seconds(setup, work) for _ in range(REPEATS)]
        peaks.append(max(peak for peak, _ in runs))
        taken.append(statistics.median(seconds for _, seconds in runs))
    return {"words": list(SIZES), "seconds": taken, "peak_growth_bytes": peaks, "exponent": exponent(taken)}


def exponent(taken):
    """Return the slope of log(seconds) over log(words)."""
    return float(np.polyfit(np.log(SIZES), np.log(taken), 1)[0])


# ---------------------------------------------------------------- two million words


def large_spectrum(matrix):
    """Return the standard deviations of 300 columns that decay, from the first to the last, as GloVe's 50 do."""
    values = np.linalg.eigvalsh(np.cov(matrix[:100_000].T))[::-1]
    places = np.linspace(0, len(values) - 1, LARGE_DIM)
    return np.sqrt(np.exp(np.interp(places, np.arange(len(values)), np.log(values))))


def write_large(path):
    """Write the synthetic table as word2vec's binary file, a block of rows at a time."""
    rng = np.random.default_rng(0)
    basis, _ = np.linalg.qr(rng.standard_normal((LARGE_DIM, LARGE_DIM)))
    basis = (large_spectrum(glove()[1])[:, None] * basis).astype(np.float32)
    digits = len(str(LARGE_ROWS - 1))
    rows = np.empty(LARGE_BLOCK, [("word", f"S{digits + 2}"), ("vector", "<f4", LARGE_DIM)])
    with open(path, "wb") as file:
        file.write(f"{LARGE_ROWS} {LARGE_DIM}\n".encode())
        for start in range(0, LARGE_ROWS, LARGE_BLOCK):
            rows["word"] = [f"w{index:0{digits}} " for index in range(start, start + LARGE_BLOCK)]
            rows["vector"] = rng.standard_normal((LARGE_BLOCK, LARGE_DIM), np.float32) @ basis
            file.write(rows.tobytes())


def run_large(words, source, target):
    """Return what a command takes: seconds, all memory it held at once, and how large its file is."""
    words = [word.format(source=source, target=target) for word in words]
    own = [] if words[0] == "plan" else ["--force", "--quiet", "--no-measure"]
    command = [sys.executable, "-m", "embshrink", *words, *own, "--threads", str(THREADS)]
    result = subprocess.run([sys.executable, "-c", LAUNCHER, *command], check=True, stdout=subprocess.PIPE, text=True)
    code, taken, peak = json.loads(result.stdout.splitlines()[-1])
    if code:
        sys.exit(f"{' '.join(command)} failed with exit code {code}")
    made = os.path.getsize(target) if own else None
    return {"command": " ".join(["embshrink", *words[:1], "SOURCE", *(["TARGET"] if own else []),
                                 *words[3 if own else 2 :]]),
            "seconds": taken, "peak_bytes": peak, "target_bytes": made}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME",
                        help="jobs with one of these in their name")
    parser.add_argument("--large", action="store_true", help="the commands on two million words instead")
    parser.add_argument("--folder", help="keeps the files between runs")
    given = parser.parse_args()
    everything = LARGE if given.large else JOBS
    chosen = [name for name in everything if any(part.lower() in name.lower() for part in given.only)]
    rows, large = earlier("growth"), earlier("growth", "large")
    with tempfile.TemporaryDirectory(dir=given.folder) as temporary:
        folder = Path(given.folder or temporary)
        source = folder / "large.bin"
        if given.large and not source.exists():
            write_large(source)
        if not given.large and not (folder / f"{SIZES[-1]}.ems").exists():
            write_inputs(folder)
        for name in chosen:
            if given.large:
                large[name] = run_large(LARGE[name], source, Path(temporary, "large.ems"))
            else:
                rows[name] = measure(name, folder)
            print(name, json.dumps((large if given.large else rows)[name]), flush=True)
            write("growth", {
                "table": "GloVe 6B 50d", "threads": THREADS,
                "large_table": {"words": LARGE_ROWS, "dim": LARGE_DIM, "matrix_bytes": 4 * LARGE_ROWS * LARGE_DIM},
                "rows": {name: rows[name] for name in JOBS if name in rows},
                "large": {name: large[name] for name in LARGE if name in large},
            }, show=False)
    performance_page.fill()


if __name__ == "__main__":
    main()
