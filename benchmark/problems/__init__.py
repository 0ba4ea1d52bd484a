"""What a sweep trains on: data sets and models, by the names that problem files use."""
