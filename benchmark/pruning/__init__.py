"""What is pruned, how it is chosen, how it stays zero, and what it saves."""
