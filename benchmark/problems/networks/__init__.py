"""The networks of the suite, as torch modules. `benchmark.problems.models` has their names."""
