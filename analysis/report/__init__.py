"""One page that holds everything: what was run, the tables, the figures, every cell and every failure."""
