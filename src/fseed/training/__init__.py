"""Lightning module, data module, callbacks and the runner: the only place where a task meets a model."""
