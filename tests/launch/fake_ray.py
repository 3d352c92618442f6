"""A stand-in for the module ``ray``: tasks end when they are waited for, as a script says."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

Node = dict[str, Any]


class RayError(Exception):
    """The root of Ray's errors."""


class WorkerCrashedError(RayError):
    pass


class NodeDiedError(RayError):
    pass


class OutOfMemoryError(RayError):
    pass


class TaskCancelledError(RayError):
    pass


class RayTaskError(RayError):
    pass


@dataclass
class Reference:
    """A task on its way."""

    call: Callable[[], Any]
    name: str

    def __hash__(self) -> int:
        return id(self)


@dataclass
class FakeRay:
    """``script``: errors of the first tries of an arm; then the task runs in this process."""

    script: dict[str, list[Exception]] = field(default_factory=dict)
    nodes_found: list[Node] = field(
        default_factory=lambda: [{"Alive": True, "Resources": {"CPU": 2.0}}]
    )
    refuses: Exception | None = None
    refused: dict[str, Exception] = field(default_factory=dict)  # arm -> when it is handed over
    on_wait: Callable[["FakeRay"], None] | None = None
    log: list[str] = field(default_factory=list)
    options: dict[str, Any] = field(default_factory=dict)
    most_running: int = 0
    running: list[Reference] = field(default_factory=list)
    cancelled: dict[str, bool] = field(default_factory=dict)  # arm -> by force
    is_up: bool = False

    def is_initialized(self) -> bool:
        return self.is_up

    def init(self, **options: Any) -> None:
        if self.refuses is not None:
            raise self.refuses
        self.is_up, self.options = True, options
        self.log.append("init")

    def shutdown(self) -> None:
        self.is_up = False
        self.log.append("shutdown")

    def nodes(self) -> list[Node]:
        return self.nodes_found

    def remote(self, **options: Any) -> Callable[[Any], "FakeTask"]:
        self.options |= {"task": options}
        return lambda function: FakeTask(self, function)

    def wait(
        self, references: list[Reference], *, num_returns: int, timeout: float
    ) -> tuple[list[Reference], list[Reference]]:
        if self.on_wait is not None:
            self.on_wait(self)
        left = [one for one in references if one.name not in self.cancelled] or references
        return left[:num_returns], references[num_returns:]

    def get(self, reference: Reference) -> Any:
        self.running.remove(reference)
        if reference.name in self.cancelled:
            raise TaskCancelledError
        errors = self.script.get(reference.name)
        if errors:
            raise errors.pop(0)
        return reference.call()

    def cancel(self, reference: Reference, *, force: bool) -> None:
        self.cancelled[reference.name] = force


@dataclass
class FakeTask:
    """A remote function."""

    ray: FakeRay
    function: Callable[[Any], Any]

    def remote(self, parcel: Any) -> Reference:
        name = parcel.job.run.arm
        if name in self.ray.refused:
            raise self.ray.refused[name]
        reference = Reference(lambda: self.function(parcel), name)
        self.ray.running.append(reference)
        self.ray.most_running = max(self.ray.most_running, len(self.ray.running))
        self.ray.log.append(name)
        return reference
