"""Speed of embshrink and of other programs at the same work, in paired runs on GloVe 6B 50d.

    pip install -e '.[bench]' spacy
    python benchmarks/speed.py                       # about a quarter of an hour on two cores
    python benchmarks/speed.py --only kmeans reading  # rows with that in their name; the others are kept
    python benchmarks/speed.py --list

Writes results/speed.json after each row, and docs/performance.md at the end. embshrink and the other program run in
turn in one process, on two threads each: embshrink by `set_threads`, faiss by `omp_set_num_threads`, BLAS and
scikit-learn by threadpoolctl, arrow by `set_cpu_count`. Both have run once before, unless a row says otherwise.
The other programs get their best conditions: prepared unit rows and queries, codebooks of faiss trained on 65,536
rows, the faster algorithm of scikit-learn. The time to make indexes and models is not counted; that of embshrink is
shown in separate rows, as the first searches of a newly opened file. With OMP_WAIT_POLICY=active in the environment,
threads of faiss wait in a busy loop, which may be faster on an idle machine.
"""

import argparse
import functools
import gc
import json
import os
import statistics
import tempfile
import tracemalloc
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # before faiss: threads that wait keep a core

import numpy as np  # noqa: E402
import pages  # noqa: E402
from common import earlier, glove, glove_files, paired, ratio_of, seconds, write  # noqa: E402
from threadpoolctl import threadpool_limits  # noqa: E402

import embshrink  # noqa: E402
from embshrink.evaluation.benchmarks import find_analogies, read_analogies  # noqa: E402
from embshrink.methods import registry  # noqa: E402
from embshrink.methods.base import Context  # noqa: E402
from embshrink.numerics.arrays import unit_rows  # noqa: E402
from embshrink.numerics.parallel import set_threads  # noqa: E402

THREADS = 2
ROUNDS, QUERIES = 5, 40  # of searches: each round takes other words
BATCH = 512  # words at once
CHECKED = 50  # words whose neighbours are compared with brute force
SAMPLE = 65_536  # rows that faiss's codebooks are trained on: what it takes by itself for 256 centroids
KEPT = 20_000
CLUSTERED, CLUSTERS, ITERATIONS = 256_000, 1000, 25


def faster(factor):
    """Return the target that embshrink is `factor` times faster than the other program."""
    return {"asked": f"{factor:g}x faster" if factor > 1 else "faster", "least": factor}


def within(factor):
    """Return the target that embshrink takes at most `factor` times as long as the other program."""
    return {"asked": f"at most {factor:g}x its time", "least": 1 / factor}


def against(record, demand=None):
    """Return the record of paired times, with the target and whether it is met."""
    if demand is None:
        return {**record, "asked": None}
    return {**record, "asked": demand["asked"], "met": record["times_faster"] >= demand["least"]}


class Table:
    """GloVe, its files, and the compressed files that several rows use."""

    def __init__(self, folder):
        self.folder = folder
        self.words, self.matrix = glove()

    @functools.cached_property
    def units(self):
        return unit_rows(self.matrix)

    @functools.cached_property
    def sample(self):
        chosen = np.random.default_rng(0).choice(len(self.matrix), SAMPLE, replace=False)
        return np.ascontiguousarray(self.units[chosen])

    @functools.cached_property
    def keyed(self):
        from gensim.models import KeyedVectors

        keyed = KeyedVectors(self.matrix.shape[1])
        keyed.add_vectors(self.words, self.matrix)
        return keyed

    def compressed(self, steps):
        """Return the path of the compressed table."""
        path = Path(self.folder, "".join(c if c.isalnum() else "-" for c in " ".join(steps)) + ".ems")
        if not path.exists():
            embshrink.compress(embshrink.WordVectors(self.words, self.matrix), path, steps, measure=False)
        return path

    def relative_error(self, decoded):
        lost = ((self.matrix - decoded) ** 2).sum(dtype=np.float64)
        return float(lost / ((self.matrix - self.matrix.mean(axis=0)) ** 2).sum(dtype=np.float64))


# ---------------------------------------------------------------- search


def gensim_search(table):
    return lambda number: table.keyed.most_similar(table.words[number], topn=10)


def numpy_search(table):
    units = table.units

    def search(number):
        cosines = units @ units[number]
        best = np.argpartition(cosines, -11)[-11:]
        return best[np.argsort(-cosines[best])]

    return search


def faiss_index(table, make):
    import faiss

    index = make(faiss)
    index.train(table.sample)
    index.add(table.units)
    return index


def faiss_search(table, make):
    index = faiss_index(table, make)
    return lambda number: index.search(table.units[number : number + 1], 11)


def fast_scan(faiss):
    index = faiss.IndexPQFastScan(50, 25, 4, faiss.METRIC_INNER_PRODUCT)
    index.pq.cp.max_points_per_centroid = SAMPLE // 16  # by itself it would learn from 4,096 rows
    return index


def faiss_pq(faiss):
    return faiss.IndexPQ(50, 25, 8, faiss.METRIC_INNER_PRODUCT)


def faiss_binary(table, bits):
    import faiss

    signs = np.zeros((len(table.units), bits), bool)
    signs[:, : table.units.shape[1]] = table.units > 0
    codes = np.packbits(signs, axis=1)
    index = faiss.IndexBinaryFlat(bits)
    index.add(codes)
    return lambda number: index.search(codes[number : number + 1], 11)


def search_times(ours, theirs):
    """Return the record of searches, one at a time: the median of the queries of each round."""
    numbers = np.random.default_rng(0).choice(400_000, (ROUNDS, QUERIES), replace=False)
    times = []
    for chosen in numbers:
        of_round = []
        for search in (ours, theirs):
            search(int(chosen[0]))
            of_round.append(statistics.median(seconds(lambda n=n, f=search: f(int(n)))[0] for n in chosen))
        times.append(of_round)
    return ratio_of(times)


def held_by_search(path):
    """Return the bytes of memory that searching adds to an open file."""
    with embshrink.load(path) as emb:
        tracemalloc.start()
        for word in ("king", "queen", "man"):
            emb.most_similar(word)
        gc.collect()
        held = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    return held


def recall(emb):
    """Return the share of the ten neighbours found for 50 words that are among the ten nearest decoded vectors.

    A neighbour that ties with the tenth, to 1e-6, counts: codes of few bits have many ties.
    """
    units = unit_rows(np.asarray(emb.vectors)).astype(np.float64)
    found = 0
    for number in np.random.default_rng(1).choice(len(units), CHECKED, replace=False):
        cosines = units @ units[number]
        cosines[number] = -np.inf
        least = np.partition(cosines, -10)[-10] - 1e-6
        found += sum(cosines[emb.get_index(word)] >= least for word, _ in emb.most_similar(emb.words[int(number)]))
    return int(found) / (10 * CHECKED)


def search(table, steps, peers):
    """Return the row of a file's `most_similar`, against peers given as name: (what makes the search, demand)."""
    path = table.compressed(steps)
    with embshrink.load(path) as warm:
        for word in ("king", "queen", "man"):  # compiles
            warm.most_similar(word)
    with embshrink.load(path) as emb:
        first = [seconds(lambda word=word: emb.most_similar(word))[0] for word in ("king", "queen", "man")]
        record = {"steps": steps, "first_searches_s": first, "held_bytes": held_by_search(path),
                  "recall_at_10": recall(emb)}
        record["right"] = record["recall_at_10"] == 1
        record["against"] = {}
        for name, (make, demand) in peers.items():
            times = search_times(lambda number: emb.most_similar(table.words[number], topn=10), make())
            record["against"][name] = against(times, demand)
    return record


def search_pq4(table):
    return search(table, ["pq:subspaces=25,centroids=16"], {
        "gensim most_similar": (lambda: gensim_search(table), faster(8)),
        "faiss IndexPQFastScan": (lambda: faiss_search(table, fast_scan), within(1.2)),
    })


def search_pq8(table):
    return search(table, ["pq:subspaces=25"], {
        "faiss IndexPQ": (lambda: faiss_search(table, faiss_pq), faster(2)),
        "gensim most_similar": (lambda: gensim_search(table), None),
    })


def search_iiq(table):
    longer_is_faster = search_times(faiss_binary(table, 64), faiss_binary(table, 56))["times_faster"] > 1
    bits = 64 if longer_is_faster else 56
    return search(table, ["iiq"], {
        f"faiss IndexBinaryFlat, {bits} bit": (lambda: faiss_binary(table, bits), within(1.2)),
        "numpy matrix @ query and argpartition": (lambda: numpy_search(table), faster(10)),
        "gensim most_similar": (lambda: gensim_search(table), None),
    })


def search_other(table, steps):
    return search(table, steps, {
        "gensim most_similar": (lambda: gensim_search(table), None),
        "numpy matrix @ query and argpartition": (lambda: numpy_search(table), None),
    })


def batch(table, steps, peer):
    """Return the row of `Embeddings.nearest` for many words at once, against an index of faiss and numpy."""
    numbers = np.random.default_rng(0).choice(400_000, BATCH, replace=False)
    words, queries = [table.words[number] for number in numbers], table.units[numbers]
    index = faiss_index(table, peer)
    with embshrink.load(table.compressed(steps)) as emb:
        found = []

        def ours():
            found[:] = emb.nearest(words, topn=10)

        def by_numpy():
            for first in range(0, BATCH, 64):
                cosines = queries[first : first + 64] @ table.units.T
                best = np.argpartition(cosines, -11, axis=1)[:, -11:]
                np.take_along_axis(best, np.argsort(-np.take_along_axis(cosines, best, 1), axis=1), 1)

        record = {"steps": steps, "queries": BATCH, "against": {}}
        for name, other in ((f"faiss {type(index).__name__}", lambda: index.search(queries, 11)),
                            ("numpy products of 64 and argpartition", by_numpy)):
            record["against"][name] = against(paired(ours, other, pairs=3))
        one_by_one = [[emb.get_index(near) for near, _ in emb.most_similar(word)] for word in words[:CHECKED]]
        record["right"] = bool(np.array_equal(found[0][:CHECKED], one_by_one))
        return record


# ---------------------------------------------------------------- the rest


def analogies(table):
    """Return the row of all questions; gensim, which takes minutes, answers once, between two runs of embshrink."""
    path, scores = find_analogies(), {}
    emb = embshrink.as_embeddings(embshrink.WordVectors(table.words, table.matrix))

    def ours():
        scores["ours"] = emb.evaluate_word_analogies(path)

    def theirs():
        scores["gensim"] = table.keyed.evaluate_word_analogies(path, restrict_vocab=300_000)

    ours()
    first, other, last = seconds(ours)[0], seconds(theirs)[0], seconds(ours)[0]
    found = {name: [score, len(parts[-1]["correct"]), len(parts[-1]["incorrect"])]
             for name, (score, parts) in scores.items()}
    return {"questions": len(read_analogies(path)),
            "score": found, "right": found["ours"] == found["gensim"],
            "against": {"gensim evaluate_word_analogies": against(ratio_of([(statistics.mean([first, last]), other)]),
                                                                  faster(25))}}


def pq_training(table, iterations=25):
    """Return the row of training codebooks of 25 x 256; faiss runs 25 rounds."""
    import faiss

    step = registry.parse(f"pq:subspaces=25,iterations={iterations}").resolve(*table.matrix.shape)
    context = Context(np.ones(len(table.matrix)), np.random.default_rng(0))
    chosen = np.random.default_rng(0).choice(len(table.matrix), SAMPLE, replace=False)
    sample, peer = np.ascontiguousarray(table.matrix[chosen]), faiss.ProductQuantizer(50, 25, 8)
    times = paired(lambda: step.fit(table.matrix, context), lambda: peer.train(sample))
    state = step.fit(table.matrix, context)
    ours = step.decode(step.encode(table.matrix, state, context), state, np.arange(len(table.matrix)))
    errors = {"ours": table.relative_error(ours),
              "faiss": table.relative_error(peer.decode(peer.compute_codes(table.matrix)))}
    return {"steps": [registry.format(step)], "relative_error": errors,
            "right": errors["ours"] <= 1.005 * errors["faiss"],
            "against": {f"faiss ProductQuantizer.train, its default {SAMPLE:,} rows": against(times, faster(10))}}


def kmeans(table):
    import faiss
    from sklearn.cluster import KMeans

    from embshrink.numerics.kmeans import kmeans

    rows = np.ascontiguousarray(table.matrix[:CLUSTERED])
    squares = {}

    def ours():
        centroids, labels = kmeans(rows, CLUSTERS, np.random.default_rng(0), init="random", iterations=ITERATIONS)
        squares["ours"] = float(((rows - centroids[labels]) ** 2).sum(dtype=np.float64))

    def of_faiss():
        model = faiss.Kmeans(rows.shape[1], CLUSTERS, niter=ITERATIONS, max_points_per_centroid=256)
        model.train(rows)
        squares["faiss"] = float(model.index.search(rows, 1)[0].sum(dtype=np.float64))

    def of_sklearn(algorithm):
        model = KMeans(CLUSTERS, init="random", n_init=1, max_iter=ITERATIONS, tol=0, algorithm=algorithm,
                       random_state=0).fit(rows)
        squares[f"scikit-learn {algorithm}"] = float(model.inertia_)

    better = min(("lloyd", "elkan"), key=lambda algorithm: seconds(lambda: of_sklearn(algorithm))[0])
    times = {"faiss Kmeans": paired(ours, of_faiss, pairs=3),
             f"scikit-learn KMeans, {better}": paired(ours, lambda: of_sklearn(better), pairs=3)}
    least = min(error for name, error in squares.items() if name != "ours")
    return {"squares": squares, "right": squares["ours"] <= 1.005 * least,
            "against": {name: against(record, faster(1)) for name, record in times.items()}}


def prune(table):
    """Return the row of exact pruning of the original rows; the time excludes making spaCy's word list."""
    import faiss

    found = {}

    def ours():
        step = registry.parse(f"prune:keep={KEPT}").resolve(*table.matrix.shape)
        context = Context(np.arange(len(table.matrix), 0, -1.0), np.random.default_rng(0))
        found["ours"] = step.reduce(table.matrix, context)[0].rows[KEPT:]

    def of_faiss():
        units = table.matrix.copy()
        faiss.normalize_L2(units)
        index = faiss.IndexFlatIP(units.shape[1])
        index.add(units[:KEPT])
        found["faiss"] = index.search(units[KEPT:], 1)[1][:, 0]

    record = {"against": {"faiss IndexFlatIP": against(paired(ours, of_faiss, pairs=3), faster(1.5))}}
    made = spacy_vocab(table)
    if made is not None:
        vocab, keys = made
        times = [(seconds(ours)[0], seconds(lambda: vocab.prune_vectors(KEPT))[0])]
        record["against"]["spaCy Vocab.prune_vectors"] = against(ratio_of(times), faster(3))
        found["spaCy"] = np.array([vocab.vectors.key2row[key] for key in keys[KEPT:]])
    record["rows_that_differ"] = {name: differing(table.units, found["ours"], rows)
                                  for name, rows in found.items() if name != "ours"}
    record["right"] = all(gap <= 1e-6 for _, gap in record["rows_that_differ"].values())
    return record


def differing(units, mine, theirs):
    """Return how many words have another row, and the largest difference of their cosines: ties to float32."""
    places = np.flatnonzero(mine != theirs)
    gaps = np.abs(np.einsum("ij,ij->i", units[KEPT:][places], units[mine[places]] - units[theirs[places]],
                            dtype=np.float64))
    return [len(places), float(gaps.max(initial=0))]


def spacy_vocab(table):
    """Return (spaCy's vocabulary with the vectors, each word's key), or None without spaCy."""
    try:
        from spacy.vectors import Vectors
        from spacy.vocab import Vocab
    except ImportError:
        return None
    vocab = Vocab()
    keys = [vocab.strings.add(word) for word in table.words]
    vocab.vectors = Vectors(strings=vocab.strings, data=table.matrix.copy(), keys=keys)
    for key in keys:
        vocab[key]
    return vocab, keys


def reading(table):
    from gensim.models import KeyedVectors
    from pyarrow import csv

    text, _ = glove_files(table.folder)

    def ours():
        return embshrink.read_vectors(text)

    def arrow():
        return csv.read_csv(text, read_options=csv.ReadOptions(autogenerate_column_names=True),
                            parse_options=csv.ParseOptions(delimiter=" ", quote_char=False))

    times = paired(ours, arrow)
    before, vectors = seconds(ours)
    slow, keyed = seconds(lambda: KeyedVectors.load_word2vec_format(str(text), no_header=True))
    same = list(vectors.words) == keyed.index_to_key and np.array_equal(vectors.matrix, keyed.vectors)
    return {"bytes": text.stat().st_size, "equal_to_gensim": same, "right": same, "against": {
        "pyarrow csv.read_csv": against(times, faster(1.2)),
        "gensim load_word2vec_format": against(ratio_of([(before, slow)]), faster(40)),
    }}


def lookups(table):
    ids = np.random.default_rng(0).integers(len(table.matrix), size=1_000_000)
    with embshrink.load(table.compressed(["pq:subspaces=25"])) as emb:
        times = paired(lambda: emb.decode_ids(ids), lambda: table.matrix[ids])
        whole = np.asarray(emb.vectors)
        same = np.array_equal(emb.decode_ids(ids), whole[ids])
    return {"steps": ["pq:subspaces=25"], "lookups": len(ids), "right": bool(same),
            "against": {"numpy matrix[ids], float32": against(times, within(3))}}


ROWS = {
    "search, pq 25x4": search_pq4,
    "search, pq 25x8": search_pq8,
    "search, iiq 50 bit": search_iiq,
    "search, ecq": lambda table: search_other(table, ["ecq"]),
    "search, scalar 8 bit": lambda table: search_other(table, ["scalar:bits=8"]),
    "search, prune and pq": lambda table: search_other(table, ["prune:keep=20000", "pq:subspaces=25"]),
    "search, 512 at once, pq 25x4": lambda table: batch(table, ["pq:subspaces=25,centroids=16"], fast_scan),
    "search, 512 at once, pq 25x8": lambda table: batch(table, ["pq:subspaces=25"], faiss_pq),
    "analogies, 19,544 questions": analogies,
    "PQ training, 25x256, 25 rounds": pq_training,
    "PQ training, 25x256, 2 rounds": lambda table: pq_training(table, iterations=2),
    f"kmeans, {CLUSTERS:,} centroids, {CLUSTERED:,} rows": kmeans,
    f"prune, 400,000 to {KEPT:,}": prune,
    "reading text, 171 MB": reading,
    "1,000,000 lookups, pq 25x8": lookups,
}


def limit_threads():
    """Set the same number of threads for embshrink and all other programs."""
    import faiss
    import pyarrow
    import scipy.linalg  # noqa: F401
    import sklearn  # noqa: F401

    set_threads(THREADS)
    faiss.omp_set_num_threads(THREADS)
    pyarrow.set_cpu_count(THREADS)
    threadpool_limits(THREADS)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", help="rows with one of these in their name")
    parser.add_argument("--folder", help="keeps the files, 300 MB, between runs")
    parser.add_argument("--list", action="store_true", help="print the rows' names")
    given = parser.parse_args()
    chosen = {name: run for name, run in ROWS.items()
              if given.only is None or any(part.lower() in name.lower() for part in given.only)}
    if given.list or not chosen:
        print(*ROWS, sep="\n")
        return
    limit_threads()
    measured = earlier("speed") if given.only else {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.folder or temporary
        os.makedirs(folder, exist_ok=True)
        table = Table(folder)
        for name, run in chosen.items():
            measured[name] = {"load_before": os.getloadavg()[0], **run(table)}
            print(name, json.dumps(measured[name], indent=1), flush=True)
            write("speed", {"table": "GloVe 6B 50d, 400,000 words", "threads": THREADS,
                            "rows": {name: measured[name] for name in ROWS if name in measured}}, show=False)
    pages.fill()


if __name__ == "__main__":
    main()
