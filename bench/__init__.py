"""The project's hot paths beside its neighbours', in one run: `python -m bench`. Benchmarks, never tests."""
