"""Measure a reader: cold start, lookups, search and iteration. It needs numpy and embshrink only.

    python benchmarks/reader.py out/pq.ems out/ecq.ems

Each figure is the processor time of a new process, in seconds, the least of three. The figures of the
guide docs/guides/functions-and-phones.md were measured in an environment of numpy and ``pip install --no-deps .``.
"""

import argparse
import json
import subprocess
import sys

WORDS = ("king", "paris", "dog", "computer", "red", "running", "zebra", "house", "seven", "blue")
MEASURE = """
import sys, time
start = time.process_time
import logging
logging.disable()
import json, resource, statistics
path, words = sys.argv[1], sys.argv[2:]
found = {"start of Python": start()}
import numpy
found["import of numpy"] = start()
import embshrink
emb = embshrink.load(path)
emb["movie"]
found["load, first lookup"] = start()

def timed(name, call, unit=1):
    before = start()
    call()
    found[name] = (start() - before) * unit

timed("a later lookup, ms", lambda: [emb[word] for word in words], 1000 / len(words))
timed("20,000 words in one batch", lambda: emb.vectors_for(emb.words[:20_000]))
timed("index_to_key", lambda: emb.index_to_key)
timed("first search", lambda: emb.most_similar("movie"))
times = []
for word in words:
    before = start()
    emb.most_similar(word)
    times.append(start() - before)
found["a later search, ms"] = 1000 * statistics.median(times)
emb.close()
timed("verify", lambda: embshrink.verify(path))
found["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
print(json.dumps(found))
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    for path in options.files:
        runs = []
        for _ in range(2 if options.quick else 3):
            run = subprocess.run([sys.executable, "-c", MEASURE, path, *WORDS], capture_output=True, text=True,
                                 check=True)
            runs.append(json.loads(run.stdout))
        print(path)
        for name in runs[0]:
            print(f"  {name:28}{min(run[name] for run in runs):10.3f}")


if __name__ == "__main__":
    main()
