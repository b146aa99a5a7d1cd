"""The method `ecq`: entropy-coded quantization."""
