"""Speed, measured: `python -m benchmarks.sps`, `.train`, `.seeds`, `.peers`; docs/benchmarks.md explains them."""
