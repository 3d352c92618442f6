"""One self-contained HTML report of a collection: markup, figures, sections, page. No scripts."""
