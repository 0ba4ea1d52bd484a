"""What knows the paper: its tables and figure, its claims and its published numbers."""
