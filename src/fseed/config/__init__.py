"""Typed configuration: the schema, its cross-field rules and the arm labels. No torch, no Hydra."""
