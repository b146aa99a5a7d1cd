"""Check, in an environment that has numpy and the wheel alone, that reading works and the command says what it needs.

    python .ci/numpy_only.py tests/golden
"""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np

import embshrink

golden = Path(sys.argv[1])
for name in ("click", "scipy", "numba", "gensim", "rich"):
    assert importlib.util.find_spec(name) is None, f"{name} is installed: this environment proves nothing"

for path in sorted(golden.glob("*.ems")):
    before = np.load(path.with_suffix(".npz"))
    with embshrink.load(path, verify="full") as emb:
        def same(found, expected, path=path):
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6, err_msg=path.name)

        same(np.asarray(emb.vectors), before["vectors"])
        if len(emb):
            word = emb.index_to_key[0]
            same(emb[word], before["vectors"][0])
            assert len(emb.most_similar(word, topn=3)) == 3
        if "unseen" in before:
            for word, vector in zip(before["unseen"], before["unseen_vectors"]):
                same(emb[str(word)], vector)

command = subprocess.run([Path(sys.executable).with_name("embshrink"), "--version"], capture_output=True, text=True)
assert command.returncode == 1, command
message = command.stderr.strip().splitlines()
assert "click" in message[-1], command.stderr
assert len(message) == 1, command.stderr
print("numpy alone reads all golden files; without click the command says:", message[-1])
