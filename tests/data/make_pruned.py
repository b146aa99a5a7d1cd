"""Make pruned.ftz, and pruned.vec with the vectors fastText gives for its words and some others.

Run by hand where the package fasttext-wheel is installed; the tests only read the files.
"""

import random
from pathlib import Path

FOLDER = Path(__file__).parent
SYLLABLES = ["ka", "to", "mi", "ré", "žu", "над", "ос", "日", "本", "sé", "ln", "o"]
UNSEEN = ["katomiréo", "日本над", "žužužuto", "neviděno", "zzz", "sélnось"]


def main():
    import tempfile

    import fasttext

    random.seed(3)
    words = ["".join(random.choices(SYLLABLES, k=random.randint(1, 4))) for _ in range(150)]
    with tempfile.TemporaryDirectory() as folder:
        text = Path(folder, "text")
        lines = [f"__label__{i % 260} {' '.join(random.choices(words, k=6))}\n" for i in range(900)]
        text.write_text("".join(lines), encoding="utf-8")
        model = fasttext.train_supervised(str(text), dim=5, minn=1, maxn=4, bucket=3000, epoch=3, thread=1, verbose=0)
        model.quantize(str(text), dsub=2, qnorm=True, qout=True, cutoff=len(model.words) + 500)
        model.save_model(str(FOLDER / "pruned.ftz"))
    model = fasttext.load_model(str(FOLDER / "pruned.ftz"))
    rows = [f"{word} {' '.join(map(str, model.get_word_vector(word)))}\n" for word in model.words + UNSEEN]
    (FOLDER / "pruned.vec").write_text(f"{len(rows)} 5\n{''.join(rows)}", encoding="utf-8")


if __name__ == "__main__":
    main()
