"""README.md and the pages of docs/ say what benchmarks/results/*.json do."""

import importlib.util
from pathlib import Path

import pytest

PAGE = Path(__file__).resolve().parents[1] / "benchmarks" / "pages.py"


@pytest.fixture(scope="module")
def page():
    spec = importlib.util.spec_from_file_location("pages", PAGE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_figures_are_those_that_were_measured(page):
    texts = [path.read_text(encoding="utf-8") for path in page.PAGES]
    assert {match[2] for text in texts for match in page.MARKED.finditer(text)} >= set(page.PARTS)
    for text in texts:
        assert page.filled(text) == text, "python benchmarks/pages.py"


@pytest.mark.parametrize(("seconds", "text"), [
    (311.02, "311 s"), (1.0, "1 s"), (0.4056, "406 ms"), (0.00125, "1.25 ms"), (0.000283, "283 us"),
])
def test_durations(page, seconds, text):
    assert page.duration(seconds) == text


def test_ratios(page):
    slower = {"times_faster": 0.5, "times_faster_range": [0.25, 0.8], "pairs": 3}
    once = {"times_faster": 29.1, "times_faster_range": [29.1, 29.1], "pairs": 1}
    assert page.ratio(slower) == "2x its time (1.25 to 4)"
    assert page.ratio(once) == "**29.1x faster**"
