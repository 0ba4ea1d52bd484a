"""Tables, and what else is read out of records. Imports benchmark's cells, errors, grid and store, and never torch."""
