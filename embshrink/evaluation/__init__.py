"""What a table is worth: benchmarks, scores, and what was lost against a baseline."""
