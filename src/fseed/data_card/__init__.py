"""The data card of a task: what its examples are, as blocks for terminal, Markdown and HTML."""
