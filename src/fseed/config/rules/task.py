"""Rules between lengths, batches, splits and the source of a task's rows."""

from fseed.config.schema import RunConfig, SourceKind
from fseed.errors import UserError

# the generated rows are kept in memory
MAX_MINI_EXAMPLES = 100_000


def check_lengths(config: RunConfig) -> None:
    """Raise UserError unless an answer leaves room for a prompt."""
    longest, answer = config.task.max_length_tokens, config.task.max_answer_tokens
    if answer + 1 >= longest:
        raise UserError(
            f"task.max_answer_tokens={answer} leaves no room for a prompt within "
            f"task.max_length_tokens={longest}"
        )


def check_source(config: RunConfig) -> None:
    """Raise UserError for local rows without a folder, or more generated ones than allowed."""
    if config.data.source is SourceKind.local and config.data.root is None:
        raise UserError("data=local needs data.root=FOLDER, with one subfolder per data set")
    for name in ("num_train", "num_validation", "num_test"):
        number = getattr(config.data, name)
        if config.data.source is SourceKind.mini and number > MAX_MINI_EXAMPLES:
            raise UserError(f"data.{name}={number}: data=mini gives at most {MAX_MINI_EXAMPLES}")
