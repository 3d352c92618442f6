"""Tasks: data plus a score. A task knows no model; nothing here imports torch."""
