"""One tree of errors. Each message says what happened and what to do next; the CLI prints it as it stands."""

from __future__ import annotations


class BatcherError(Exception):
    """Base of every error that batcher raises on purpose.

    Attributes:
        exit_code: what the CLI exits with (0 done, 1 items failed, 2 usage, 3 configuration, 4 budget,
            5 a dependency is down).
    """

    exit_code: int = 1


class UsageError(BatcherError):
    """The command line asks for something that does not exist or does not fit."""

    exit_code = 2


class UnfinishedError(BatcherError):
    """Work that the command rests on was stopped: it exits with what that means."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class BusyError(BatcherError):
    """Another process does the same work at this moment."""


class PausedError(BatcherError):
    """The user paused the job, and only the user ends that."""


class ConfigurationError(BatcherError):
    """A key, a price, a setting, a model file or an extra is missing or wrong."""

    exit_code = 3


class TaskError(ConfigurationError):
    """A task definition or its parameters cannot be used."""


class UnknownTaskError(TaskError):
    """The command line names a task that is not there."""

    exit_code = 2


class ParameterError(TaskError):
    """A task's parameter is missing, unknown or wrong, on the command line."""

    exit_code = 2


class CatalogError(ConfigurationError):
    """A model, tier or provider is unknown, unpriced or wrongly described."""


class KeyValueError(CatalogError):
    """A provider's key holds what cannot be sent."""


class DependencyError(BatcherError):
    """A database, broker, model server or package index cannot be reached."""

    exit_code = 5


class StoreAwayError(DependencyError):
    """The store cannot be used now, and may be again in a moment."""


class IllegalTransitionError(BatcherError):
    """A change of state that domain.py does not allow was asked for."""
