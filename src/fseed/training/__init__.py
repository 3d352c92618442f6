"""Lightning module, data, callbacks, runner: the only place where a task meets a model."""
