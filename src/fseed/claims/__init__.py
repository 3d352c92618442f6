"""Published numbers: the manifest, the archived records, and the references in the documents."""
