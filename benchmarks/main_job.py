"""Reading, pruning, PQ training and start-up compared with gensim, numpy and faiss, as ratios of paired runs.

    pip install -e '.[bench]'
    python benchmarks/main_job.py [FOLDER]

FOLDER keeps the files of 171 MB and 84 MB between runs. gensim takes about a minute each time it reads the text.
"""

import sys
import tempfile

import numpy as np
from common import glove, glove_files, paired, peak_growth, process_seconds, ratio_of, seconds, write

import embshrink

MIB = 1 << 20


def reading(text, binary):
    from gensim.models import KeyedVectors

    record = {}
    for name, path, options in (("text", text, {"no_header": True}), ("binary", binary, {"binary": True})):
        times = []
        embshrink.read_vectors(path)
        for _ in range(1 if name == "text" else 3):
            mine, ours = min((seconds(lambda path=path: embshrink.read_vectors(path)) for _ in range(3)),
                             key=lambda pair: pair[0])
            other, theirs = seconds(lambda path=path, options=options: KeyedVectors.load_word2vec_format(
                str(path), **options))
            times.append((mine, other))
        equal = list(ours.words) == theirs.index_to_key and np.array_equal(ours.matrix, theirs.vectors)
        held = ours.matrix.nbytes + sum(sys.getsizeof(word) + 8 for word in ours.words.raw)
        del ours, theirs
        peak = peak_growth("import embshrink, numpy, numba, concurrent.futures, embshrink.formats",
                           f"vectors = embshrink.read_vectors({str(path)!r})")
        record[name] = {**ratio_of(times), "equal_to_gensim": equal, "matrix_and_words_bytes": held,
                        "peak_bytes": peak, "peak_beyond_mib": (peak - held) / MIB}
    return record


def pruning(matrix, keep=20_000):
    from embshrink.methods.base import Context
    from embshrink.methods.prune import Prune

    units = matrix / np.linalg.norm(matrix, axis=1, keepdims=True)

    def ours():
        weights = np.arange(len(matrix), 0, -1.0)
        return Prune(keep=keep).reduce(matrix, Context(weights, None))[0].rows[keep:]

    def theirs():
        columns = np.ascontiguousarray(units[:keep].T)
        return np.concatenate([(units[start : start + 1024] @ columns).argmax(axis=1)
                               for start in range(keep, len(units), 1024)])

    first, second = ours(), theirs()
    differing = np.flatnonzero(first != second)
    gap = np.abs(np.einsum("ij,ij->i", units[keep:][differing], units[first[differing]] - units[second[differing]]))
    setup = ("import sys, numpy as np; sys.path.insert(0, 'benchmarks'); from common import glove; "
             "from embshrink.methods.prune import Prune; from embshrink.methods.base import Context; "
             "import threadpoolctl, embshrink.numerics.assignment, embshrink.kernels.nearest; "
             "matrix = glove()[1]; weights = np.arange(len(matrix), 0, -1.0); "
             "Prune(keep=50).reduce(matrix[:5000], Context(weights[:5000], None))")
    peak = peak_growth(setup, f"Prune(keep={keep}).reduce(matrix, Context(weights, None))")
    return {**paired(ours, theirs, pairs=3), "rows_that_differ": len(differing),
            "largest_difference_of_cosine": float(gap.max(initial=0)), "peak_beyond_input_mib": peak / MIB}


def pq_training(matrix):
    import faiss

    from embshrink.methods.base import Context
    from embshrink.methods.pq import PQ

    faiss.omp_set_num_threads(embshrink.numerics.parallel.thread_count())
    sample = np.ascontiguousarray(matrix[np.random.default_rng(0).choice(len(matrix), 65_536, replace=False)])
    spread = ((matrix - matrix.mean(axis=0)) ** 2).sum(dtype=np.float64)
    step = PQ(subspaces=25, centroids=256, iterations=25, sample=len(sample))
    context = Context(np.ones(len(sample)), np.random.default_rng(0))
    peer = faiss.ProductQuantizer(50, 25, 8)
    peer.cp.niter = 25
    record = paired(lambda: step.fit(sample, context), lambda: peer.train(sample))
    state = step.fit(sample, context)
    decoded = step.decode(step.encode(matrix, state, context), state, np.arange(len(matrix)))
    record["relative_error"] = float(((matrix - decoded) ** 2).sum(dtype=np.float64) / spread)
    decoded = peer.decode(peer.compute_codes(matrix))
    record["relative_error_faiss"] = float(((matrix - decoded) ** 2).sum(dtype=np.float64) / spread)
    return record


def start_up(binary, folder):
    target = f"{folder}/startup.ems"
    embshrink.compress(binary, target, ["pq"], force=True, measure=False)
    python = [sys.executable]
    cases = {
        "get, whole process, against import numpy": (
            [*python, "-m", "embshrink", "get", target, "king"], [*python, "-c", "import numpy"]),
        "--help, whole process, against import click": (
            [*python, "-m", "embshrink", "--help"], [*python, "-c", "import click"]),
    }
    record = {}
    for name, (ours, theirs) in cases.items():
        process_seconds(ours), process_seconds(theirs)
        times = [(process_seconds(ours), process_seconds(theirs)) for _ in range(15)]
        record[name] = {**ratio_of(times), "times_the_peer": float(np.median([a / b for a, b in times]))}
    return record


def main(folder):
    _, matrix = glove()
    text, binary = glove_files(folder)
    write("main_job", {
        "start_up": start_up(binary, folder),
        "pq_training, 25 x 256, 65,536 rows, 25 iterations, against faiss": pq_training(matrix),
        "prune 400,000 -> 20,000, against blocked numpy matmul and argmax": pruning(matrix),
        "reading, against gensim load_word2vec_format": reading(text, binary),
    })


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(sys.argv[1])
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(temporary)
