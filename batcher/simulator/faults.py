"""The fault script: what to do to which calls instead of serving them well."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random
from typing import Any, Final

import orjson

from batcher.errors import UsageError
from batcher.simulator.field_checks import FLAG, HEADERS, TEXT, Check, check_fields, number, optional, whole
from batcher.simulator.replies import FINISHES, NULL_MESSAGE
from batcher.simulator.requests import Call
from batcher.simulator.vendor_errors import ERRORS, VendorError

CONNECTIONS: Final = frozenset({"", "reset_before", "reset_after", "hang"})

CLASSES: Final[dict[str, tuple[str, ...]]] = {
    "transient": ("timeout_408", "conflict_409", "server_500", "gateway_502", "gateway_504"),
    "unknown_outcome": ("reset_before", "reset_after", "hang"),
    "account": ("bad_key", "no_credit", "spend_limit"),
    "bad_request": ("bad_parameter", "unknown_model"),
    "invalid_output": ("not_json", "wrong_schema", "fenced", "empty", "null_message"),
    "refused": ("refusal", "filtered", "blocked"),
}
"""The classes of failure that can look in several ways, and the ways."""

KINDS: Final = frozenset(
    {
        *ERRORS,
        *(way for ways in CLASSES.values() for way in ways),
        *CLASSES,
        *("truncated", "unknown_finish"),
    }
)
"""Every word that ``kind`` may be."""

_FIELDS: Final[dict[str, Check]] = {
    **dict.fromkeys(("kind", "connection", "finish", "vendor", "model", "contains"), TEXT),
    "status": whole(200, 599),
    "headers": HEADERS,
    "delay_s": number(0),
    "text": optional(TEXT),
    "billed": optional(FLAG),
    "retry_after_s": number(0),
    "times": optional(whole(0)),
    "rate": number(0, 1),
    "every": whole(1),
    "skip": whole(0),
}
_DEEDS: Final = frozenset(
    {"kind", "status", "headers", "body", "delay_s", "connection", "finish", "text", "billed"}
)
"""What a fault can do; the other fields say to which calls."""

_REFUSAL: Final = "I'm sorry, but I can't assist with that request."
_CONNECTION_KINDS: Final = frozenset(CONNECTIONS - {""})
_UNLIMITED: Final = ("rate", "every")
_RETRY_AFTER_S: Final = 1.0


@dataclass(slots=True)
class Fault:
    """Something to do to some calls.

    Attributes:
        kind: a class of failure or one of its ways (``KINDS``); "" leaves it to the fields below.
        status: HTTP status; 200 with no ``body`` serves the usual answer (delayed, cut or reset as told).
        headers: response headers to add.
        body: JSON value, or a str or bytes to send as it is; None: what that vendor says with that status.
        delay_s: seconds to wait before answering, besides the usual time.
        connection: ``reset_before`` (no byte of an answer), ``reset_after`` (half of it), ``hang``.
        finish: ``length``, ``refused``, ``filtered`` or ``unknown``: how the answer ends, in the vendor's
            own words.
        text: the answer's text instead of the generated one.
        billed: whether the call is charged; None: good answers are, whether they arrive or not, errors not.
        retry_after_s: how long a ``rate_limited`` asks to wait.
        times: how many calls it hits (None: all).
        rate: the share of the matching calls that it hits, drawn from the seed.
        every: it hits every k-th of the calls that match.
        skip: matching calls that go free first.
        vendor: only calls to this vendor.
        model: only calls to this model.
        contains: only calls whose body contains this text.
    """

    kind: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    delay_s: float = 0.0
    connection: str = ""
    finish: str = ""
    text: str | None = None
    billed: bool | None = None
    retry_after_s: float = _RETRY_AFTER_S
    times: int | None = 1
    rate: float = 1.0
    every: int = 1
    skip: int = 0
    vendor: str = ""
    model: str = ""
    contains: str = ""
    _seen: int = 0
    _draw: Random | None = None

    @classmethod
    def from_fields(cls, given: Mapping[str, Any]) -> Fault:
        """A fault from a script's table; with ``rate`` or ``every`` it goes on unless ``times`` is told.

        Raises:
            UsageError: for a field or a word that does not exist, a value that its field cannot hold, or a
                fault that does nothing.
        """
        known = {one.name for one in fields(cls) if not one.name.startswith("_")}
        if given.keys() - known:
            raise UsageError(
                f"A fault has no field {', '.join(sorted(given.keys() - known))}. Its fields are:"
                f" {', '.join(sorted(known))}"
            )
        check_fields(given, _FIELDS, "a fault")
        if not given.keys() & _DEEDS:
            raise UsageError(f"A fault does nothing without one of: {', '.join(sorted(_DEEDS))}")
        endless = {"times": None} if any(name in given for name in _UNLIMITED) else {}
        fault = cls(**{**endless, **given})
        for name, value, allowed in (
            ("kind", fault.kind, KINDS | {""}),
            ("connection", fault.connection, CONNECTIONS),
            ("finish", fault.finish, FINISHES),
        ):
            if value not in allowed:
                words = ", ".join(sorted(allowed - {""}))
                raise UsageError(f"{name} = {value!r} is none of a fault's: {words}")
        return fault

    def hits(self, call: Call) -> bool:
        """Whether this call is one to spoil (counts the call if it matches)."""
        if self.times == 0 or (self.model and self.model != call.model):
            return False
        if self.vendor and self.vendor != call.vendor:
            return False
        if self.contains and self.contains.encode() not in call.raw:
            return False
        self._seen += 1
        if self._seen <= self.skip or (self._seen - self.skip) % self.every:
            return False
        if self.rate < 1 and self._random().random() >= self.rate:
            return False
        if self.times is not None:
            self.times -= 1
        return True

    def seed(self, seed: str) -> None:
        """Make its draws repeatable."""
        self._draw = Random(seed)

    def _random(self) -> Random:
        if self._draw is None:
            self._draw = Random(0)
        return self._draw

    def way(self) -> str:
        """The way in which it shows this time: a class takes one of its ways, drawn from the seed."""
        ways = CLASSES.get(self.kind)
        return self._random().choice(ways) if ways else self.kind

    def shown(self) -> dict[str, Any]:
        """Its fields, for the control endpoint."""
        return {one.name: getattr(self, one.name) for one in fields(self) if not one.name.startswith("_")}


@dataclass(slots=True)
class Spoiling:
    """What a fault does to one call.

    Attributes:
        way: the fault's word for it, "" for one without.
        error: the error to answer with, or None for an answer of the model.
        headers: further headers.
        delay_s: further seconds.
        connection: see :class:`Fault`.
        finish: see :class:`Fault`.
        text: the answer's text; None: the usual one, changed as ``way`` says.
        billed: see :class:`Fault`.
    """

    way: str = ""
    error: VendorError | None = None
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    connection: str = ""
    finish: str = ""
    text: str | None = None
    billed: bool | None = None


def spoiling(fault: Fault, call: Call, usual_error: Any) -> Spoiling:
    """What ``fault`` does to ``call``.

    Args:
        fault: the one that hit.
        call: the request.
        usual_error: ``(vendor, status) -> VendorError`` for faults with a status and no body.
    """
    way = fault.way()
    done = Spoiling(
        way=way,
        headers=fault.headers,
        delay_s=fault.delay_s,
        connection=fault.connection,
        finish=fault.finish,
        text=fault.text,
        billed=fault.billed,
    )
    if way in ERRORS:
        done.error = ERRORS[way](call.vendor, call.model, fault.retry_after_s)
    elif way in _CONNECTION_KINDS:
        done.connection = way
        if way == "reset_before" and done.billed is None:
            done.billed = False
    elif fault.body is not None:
        done.error = VendorError(fault.status, fault.body)
    elif fault.status != 200:
        done.error = usual_error(call.vendor, fault.status)
    _of_the_model(done)
    return done


def _of_the_model(done: Spoiling) -> None:
    """Fill in the ways in which a model's own answer goes wrong."""
    if done.way in {"truncated", "filtered", "unknown_finish", "refusal"}:
        done.finish = {"truncated": "length", "unknown_finish": "unknown", "refusal": "refused"}.get(
            done.way, done.way
        )
    fixed = {
        "refusal": _REFUSAL,
        "not_json": "I have read the document. It is about several things, which I list here.",
        "wrong_schema": '{"unexpected": [null]}',
        "empty": "",
        "null_message": NULL_MESSAGE,
    }
    if done.text is None and done.way in fixed:
        done.text = fixed[done.way]


class FaultScript:
    """All faults in force; the first that hits a call spoils it.

    Args:
        seed: of their draws.
    """

    def __init__(self, seed: int = 0) -> None:
        self._seed = seed
        self.faults: list[Fault] = []

    def add(self, given: Iterable[Mapping[str, Any]]) -> None:
        """Add faults, after those that are there.

        Raises:
            UsageError: if one is none; then none is added.
        """
        made = [Fault.from_fields(one) for one in given]
        for place, fault in enumerate(made, len(self.faults)):
            fault.seed(f"fault {self._seed} {place}")
        self.faults += made

    def clear(self) -> None:
        """Take all away."""
        self.faults.clear()

    def pick(self, call: Call) -> Fault | None:
        """The fault that hits a call, or None."""
        return next((fault for fault in self.faults if fault.hits(call)), None)


def read_faults(path: Path) -> list[dict[str, Any]]:
    """The faults of a script file: TOML with ``[[faults]]`` tables, or JSON with a list (or ``faults``).

    Raises:
        UsageError: if it cannot be read.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UsageError(f"Cannot read the fault script {path}: {error.strerror}") from error
    try:
        given = orjson.loads(raw) if path.suffix == ".json" else tomllib.loads(raw.decode())
    except (orjson.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"The fault script {path} cannot be read: {error}") from error
    faults = given.get("faults") if isinstance(given, dict) else given
    if not isinstance(faults, list) or not all(isinstance(one, dict) for one in faults):
        raise UsageError(f"The fault script {path} needs [[faults]] tables, or a JSON list of objects")
    return faults
