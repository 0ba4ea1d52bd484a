"""Tables, figures and the report, read out of records. Imports no torch."""
