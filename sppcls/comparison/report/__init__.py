"""The report of a comparison: its content, tables, pictures and files."""
