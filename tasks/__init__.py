"""Tasks: one folder each, with the same four files. Read run.py first."""
