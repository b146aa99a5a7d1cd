"""Compress a fastText model of real English with embshrink and with compress-fasttext, in one run.

The text is four dictionaries of Debian: GCIDE, WordNet, FOLDOC and the Jargon File, 78 MB. These commands make it:

    apt-get download dict-gcide dict-wn dict-foldoc dict-jargon; for deb in dict-*.deb; do dpkg -x "$deb" dicts; done
    zcat dicts/usr/share/dictd/{gcide,wn,foldoc,jargon}.dict.dz > dicts.txt

Then, in a new virtual environment if you like:

    pip install -e '.[bench]' fasttext-wheel 'compress-fasttext[full]'
    python benchmarks/fasttext_case.py dicts.txt FOLDER

FOLDER keeps the model of 0.9 GB and the compressed files; an existing model is used again. Training takes six to
eight minutes on one thread (with more threads, the model would differ in every run), the rest about ten.

1,000 words that occur 20 to 1,000 times in the text are deleted from it before training. The model makes their
vectors from n-grams alone; they are the out-of-vocabulary words. Both programs are compared, by the same code, with
the vectors that the fasttext package returns for the model: for all words of its vocabulary, and for the
out-of-vocabulary words.
"""

import collections
import re
import statistics
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
from common import process_seconds, seconds, write

import embshrink
from embshrink.evaluation.loss import neighbour_overlap

TRAINING = {"model": "skipgram", "dim": 100, "bucket": 2_000_000, "minn": 3, "maxn": 6, "minCount": 5, "epoch": 3,
            "thread": 1}
HELD_BACK = 1000
QUERIES = 500  # words whose neighbours are compared
PAIRS = 15  # of processes, for the time to open a file

PEER = {  # arguments of compress_fasttext.prune_ft_freq
    "default": {"pq": True},
    "all words": {"pq": True, "new_vocab_size": 1_000_000, "qdim": 50},
}
OURS = {  # steps of the words, steps of the n-grams
    "ecq": (["ecq:bits=450"], ["ecq:bits=174"]),
    "ecq, half the size": (["ecq:bits=300,weights=zipf:0.1"], ["prune:keep=100000", "ecq:bits=160"]),
    "pq": (["pq:rotate=pca"], ["prune:keep=74000", "pq:subspaces=100"]),
    "pq, half the size": (["pq:subspaces=34,rotate=pca"], ["prune:keep=46000", "pq:subspaces=40,rotate=pca"]),
}


def prepare(source, target):
    """Write the training text, one entry per line, and return the words that were deleted from it."""
    text = Path(source).read_text(encoding="utf-8", errors="replace")
    text = re.sub(r"\\[^\\\n]*\\", " ", text)  # how a headword is pronounced
    text = re.sub(r"\[[^][\n]*(?:Webster|WordNet|PJC)[^][\n]*\]", " ", text)  # which edition says so
    text = re.sub(r"\n\s+", " ", text)  # fastText's windows end with the line
    lines = [re.findall(r"[^\W\d_]+", line) for line in text.lower().split("\n")]
    counts = collections.Counter(word for line in lines for word in line)
    common = sorted(word for word, count in counts.items() if 20 <= count <= 1000 and len(word) >= 5)
    unseen = np.random.default_rng(0).choice(common, HELD_BACK, replace=False).tolist()
    gone = set(unseen)
    with open(target, "w", encoding="utf-8") as file:
        file.writelines(" ".join(word for word in line if word not in gone) + "\n" for line in lines)
    return unseen


class Original:
    """The vectors that the fasttext package returns, with which all others are compared."""

    def __init__(self, path, unseen):
        import fasttext

        model = fasttext.load_model(str(path))
        words, counts = model.get_words(include_freq=True)
        self.words, self.counts, self.unseen = words, counts, unseen
        self.vectors = np.stack([model.get_word_vector(word) for word in words])
        self.unseen_vectors = np.stack([model.get_word_vector(word) for word in unseen])

    def measure(self, vectors, unseen_vectors):
        """Return the cosines, the overlap and the benchmark scores of other vectors of the same words."""
        cosines = cosines_of(self.vectors, vectors)
        table, whole = (embshrink.as_embeddings(embshrink.WordVectors(self.words, each))
                        for each in (vectors, self.vectors))
        overlap = neighbour_overlap(table, whole, queries=QUERIES)
        return {
            "mean cosine": float(cosines.mean()), "1st percentile": float(np.percentile(cosines, 1)),
            "mean cosine by frequency": float(np.average(cosines, weights=self.counts)),
            "mean cosine unseen": float(cosines_of(self.unseen_vectors, unseen_vectors).mean()),
            "overlap@10": overlap.overlap,
            **{score.name: 100 * score.spearman for score in embshrink.evaluate(table).similarity},
        }


def cosines_of(ours, theirs):
    lengths = np.linalg.norm(ours, axis=1) * np.linalg.norm(theirs, axis=1)
    return np.einsum("ij,ij->i", ours, theirs) / np.where(lengths > 0, lengths, 1)


def exactness(model, target, original):
    """Return the differences of float32 rows from the fasttext package; untrained n-grams are zero here."""
    embshrink.compress(model, target, "cast:dtype=float32", force=True, measure=False)
    with embshrink.load(target) as emb:
        words = np.abs(emb.vectors_for(original.words) - original.vectors).max(axis=1)
        unseen = np.abs(np.stack([emb[word] for word in original.unseen]) - original.unseen_vectors).max(axis=1)
    return {"bytes": target.stat().st_size, "largest difference": float(words.max()),
            "largest difference unseen": float(unseen.max()), "unseen within 1e-6": int((unseen <= 1e-6).sum())}


def shrink(model, target, original, words, ngrams):
    """Return the record of one setting of embshrink."""
    options = {"ngrams": ngrams, "force": True, "measure": False}
    taken, report = seconds(lambda: embshrink.compress(model, target, words, **options))
    with embshrink.load(target) as emb:
        vectors = emb.vectors_for(original.words)
        unseen = np.stack([emb[word] for word in original.unseen])
    opened = opening(f"import embshrink; embshrink.load({str(target)!r})[{original.unseen[0]!r}]")
    return {"words": words, "ngrams": ngrams, "bytes": report.target_bytes, "parts": report.parts, "seconds": taken,
            "open": opened, **original.measure(vectors, unseen)}


def shrink_by_peer(model, target, original, arguments):
    """Return the record of one setting of compress-fasttext."""
    import compress_fasttext
    from gensim.models.fasttext import load_facebook_vectors

    def work():
        np.random.seed(0)  # noqa: NPY002 - its k-means takes numbers from here
        compress_fasttext.prune_ft_freq(load_facebook_vectors(str(model)), **arguments).save(str(target))

    taken, _ = seconds(work)
    small = compress_fasttext.models.CompressedFastTextKeyedVectors.load(str(target))
    size = sum(path.stat().st_size for path in target.parent.glob(f"{target.name}*"))  # large arrays go beside it
    vectors, unseen = (np.stack([small[word] for word in words]) for words in (original.words, original.unseen))
    opened = opening("from compress_fasttext.models import CompressedFastTextKeyedVectors as Vectors; "
                     f"Vectors.load({str(target)!r})[{original.unseen[0]!r}]")
    return {"arguments": arguments, "bytes": size, "seconds": taken, "open": opened,
            **original.measure(vectors, unseen)}


def opening(code):
    """Time processes that open a file and make the vector of one unseen word, relative to ``import numpy``."""
    mine, numpy = ([sys.executable, "-W", "ignore", "-c", each] for each in (code, "import numpy"))
    process_seconds(mine), process_seconds(numpy)
    times = [(process_seconds(mine), process_seconds(numpy)) for _ in range(PAIRS)]
    return {"seconds": statistics.median(first for first, _ in times),
            "numpy_seconds": statistics.median(second for _, second in times),
            "times_numpy": statistics.median(first / second for first, second in times), "pairs": PAIRS}


def train(text, path):
    import fasttext

    taken, model = seconds(lambda: fasttext.train_unsupervised(str(text), **TRAINING))
    model.save_model(str(path))
    return taken


def main(source, folder):
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    model, text = folder / "model.bin", folder / "text.txt"
    unseen = prepare(source, text)
    trained = None if model.exists() else train(text, model)
    original = Original(model, unseen)
    record = {"peers": {name: metadata.version(name) for name in ("fasttext-wheel", "compress-fasttext")},
              "text_bytes": Path(source).stat().st_size, "trained_on_bytes": text.stat().st_size,
              "training": TRAINING, "training_seconds": trained, "model_bytes": model.stat().st_size,
              "words": len(original.words), "unseen": len(unseen),
              "original": original.measure(original.vectors, original.unseen_vectors),
              "cast:dtype=float32": exactness(model, folder / "exact.ems", original)}
    record["compress-fasttext"] = {name: shrink_by_peer(model, folder / f"peer-{i}.bin", original, arguments)
                                   for i, (name, arguments) in enumerate(PEER.items())}
    record["embshrink"] = {name: shrink(model, folder / f"ours-{i}.ems", original, *steps)
                           for i, (name, steps) in enumerate(OURS.items())}
    write("fasttext_case", record)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(*sys.argv[1:])
