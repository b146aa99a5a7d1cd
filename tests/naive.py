"""The slow, obvious twin of every kernel."""

import itertools

import numpy as np


def best_targets(matrix, targets, offsets=None):
    scores = matrix.astype(np.float64) @ targets.T.astype(np.float64)
    if offsets is not None:
        scores = scores + offsets
    return scores.argmax(axis=1), scores.max(axis=1)


def squared_distances(matrix, centroids):
    return ((matrix[:, None, :].astype(np.float64) - centroids[None]) ** 2).sum(axis=2)


def lloyd(matrix, centroids, iterations):
    """Lloyd's iterations; an empty cluster gets the worst served row."""
    centroids = centroids.astype(np.float32).copy()
    labels = None
    for iteration in range(iterations + 1):
        distances = squared_distances(matrix, centroids)
        new = distances.argmin(axis=1)
        if iteration == iterations or (
            labels is not None and np.array_equal(new, labels) and len(np.unique(labels)) == len(centroids)
        ):
            return centroids, new
        labels = new
        empty = [c for c in range(len(centroids)) if not (labels == c).any()]
        worst = np.argsort(-distances.min(axis=1), kind="stable")
        for c in range(len(centroids)):
            if c not in empty:
                centroids[c] = matrix[labels == c].mean(axis=0, dtype=np.float64)
        for c, row in zip(empty, worst):
            centroids[c] = matrix[row]
    return None


def choose_plus_plus(points, uniforms):
    chosen = [int(uniforms[0] * len(points))]
    for c, uniform in enumerate(uniforms[1:], start=1):
        gaps = squared_distances(points, points[chosen]).min(axis=1)
        if gaps.sum() == 0:
            chosen.append(c)
            continue
        passed = np.cumsum(gaps)
        chosen.append(int(np.flatnonzero((passed > uniform * passed[-1]) & (gaps > 0))[0]))
    return chosen


def prune(matrix, keep):
    """Return the kept row of each word, by exhaustive search."""
    units = matrix / np.maximum(np.linalg.norm(matrix, axis=1, keepdims=True), 1e-30)
    rows = list(range(keep))
    for i in range(keep, len(matrix)):
        rows.append(int(np.argmax(units[:keep] @ units[i])))
    return np.array(rows)


def pq_bounds(columns, subspaces):
    return [(part[0], part[-1] + 1) for part in np.array_split(np.arange(columns), subspaces)]


def pq_decode(labels, codebook, subspaces):
    bounds = pq_bounds(codebook.shape[1], subspaces)
    return np.stack([
        np.concatenate([codebook[code, start:stop] for code, (start, stop) in zip(row, bounds)]) for row in labels
    ])


def beam_search(matrix, books, beam):
    """Return the codes of each row: the `beam` best sums kept after each codebook."""
    chosen = []
    for x in matrix.astype(np.float64):
        sums = [((), np.zeros_like(x))]
        for book in books:
            longer = [((*codes, j), total + centroid) for codes, total in sums for j, centroid in enumerate(book)]
            longer.sort(key=lambda item: ((x - item[1]) ** 2).sum())
            sums = longer[:beam]
        chosen.append(sums[0][0])
    return np.array(chosen)


def largest_of_each_row(matrix, kept):
    """Return the matrix with all but the `kept` largest numbers of each row zero; the first of equal ones stay."""
    result = np.zeros_like(matrix)
    for row, out in zip(matrix, result):
        for column in sorted(range(len(row)), key=lambda column: (-abs(row[column]), column))[:kept]:
            out[column] = row[column]
    return result


def tensor_train_row(cores, row):
    """Return one row of a table given as cores (I, r, J, r'), by multiplying slices."""
    digits = []
    for core in reversed(cores):
        row, digit = divmod(row, len(core))
        digits.insert(0, digit)
    product = np.ones((1, 1))
    for core, digit in zip(cores, digits):
        product = np.einsum("ar,rjs->ajs", product, core[digit].astype(np.float64)).reshape(-1, core.shape[3])
    return product[:, 0]


def rans_block(symbols, table):
    """Return the bytes of one block, each symbol given as (frequency, start)."""
    x, found = 1 << 14, []
    for freq, start in [table[symbol] for symbol in symbols][::-1]:
        while x >= 1024 * freq:
            found.append(x % 256)
            x //= 256
        x = x // freq * 4096 + start + x % freq
    return x.to_bytes(2 if x < 1 << 16 else 3, "big") + bytes(found[::-1])


def word_symbols(words, size):
    """Return (kind, key, key, key, symbol) of all symbols of sorted words, in blocks of `size`."""
    def at(word, place):
        return word[place] + 1 if 0 <= place < len(word) else 0

    found, shared = [], 0
    for i, word in enumerate(words):
        begin = 0
        if i % size == 0:
            shared = 0
        else:
            before = words[i - 1]
            keys = (0, min(shared, 256), min(len(before), 256), at(before, len(before) - 1))
            shared = max(k for k in range(len(before) + 1) if word[:k] == before[:k])
            found += [(*keys, 255)] * (shared // 255) + [(*keys, shared % 255)]
            begin = shared + 1
            found.append((1, at(before, shared), at(word, shared - 1), at(word, shared - 2), at(word, shared)))
        for k in range(begin, len(word) + 1):
            found.append((2, at(word, k - 1), at(word, k - 2), at(word, k - 3), at(word, k)))
    return found


def bucket_of(rows):
    """Return the rank bucket of each row: 255 rows, 256, 512, ..."""
    ends = np.cumsum([255, *(256 << octave for octave in range(40))])
    return np.searchsorted(ends, rows, side="right")


def choose_sizes(target, contexts, price, value, transitions, slope, largest):
    """Return the least cost of a row of numbers among all sequences of sizes up to `largest`.

    price(context, size) is in bits, value(context, size) in the numbers' unit; contexts[j] has the one of each
    quantizer.
    """
    best = np.inf
    for sizes in itertools.product(range(largest + 1), repeat=len(target)):
        state, cost = 0, 0.0
        for number, size, context in zip(target, sizes, contexts):
            at = context[state & 1]
            cost += (abs(number) - value(at, size)) ** 2 + slope * price(at, size)
            state = transitions[state][size & 1]
        best = min(best, cost)
    return best
