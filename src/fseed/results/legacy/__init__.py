"""Results of the earlier work, read from its files and audited."""
