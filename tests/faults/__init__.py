"""Every fault of the protocol, injected for real; ``table.py`` is the list."""
