"""One page that holds everything: what came out, the tables, the figures, every cell, every failure, and its origin."""
