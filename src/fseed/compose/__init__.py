"""Everything that knows Hydra's composition: overrides, errors, the job. No torch at import."""
