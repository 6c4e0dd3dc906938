"""The program's own errors: each says what is wrong, where, and the way out."""

from __future__ import annotations

EXIT_ERROR = 1
EXIT_GATE = 2
EXIT_USAGE = 64


class DemandError(Exception):
    """A failure that a user can understand and act on.

    Raised with one message that names the file, row, column or field, and what to
    do about it. The doors print that message and end with :attr:`exit_status`;
    no traceback is shown.
    """

    exit_status: int = EXIT_ERROR


class AdsFileError(DemandError):
    """A file of ads cannot be read as ads: missing, binary, truncated, wrong columns."""


class AdsRowError(AdsFileError):
    """One row makes a table unreadable: it has too many or too few fields, or is a header.

    ``row`` is its position among those below the header, from 0.
    """

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


class AdsBombError(AdsFileError):
    """A file unpacks to more than is allowed, or to far more than any table of ads would.

    ``what`` is too much, with the file's name; the way out is for somebody who has the file.
    """

    def __init__(self, what: str, way_out: str) -> None:
        super().__init__(f"{what}: {way_out}")
        self.what = what


class AdError(DemandError):
    """What came as ads, but not in a file, is none: a wrong, unknown or missing field.

    The problem has the field's name, but not the ad's position among those that came together,
    ``row``, from 0. ``field`` is None where it is the whole ad or all of them.
    """

    what = "ad"

    def __init__(self, problem: str, *, field: str | None = None, row: int | None = None) -> None:
        super().__init__(problem if row is None else f"{self.what} {row}: {problem}")
        self.field = field
        self.row = row


class TooLargeError(AdError):
    """What came as ads is more than is allowed: too many of them, or too many bytes unpacked."""


class OutcomeError(AdError):
    """What came as the outcome of an ad is none; field and row are as of an ad."""

    what = "outcome"


class UnsupportedFormatError(DemandError):
    """What came as ads is in a format, an encoding or a compression that is not read here."""


class ConfigError(DemandError):
    """A configuration file has an unknown key or a value of the wrong kind."""


class StateError(DemandError):
    """The program's own state is in use, damaged, or cannot be written."""


class ModelError(DemandError):
    """A saved model is missing, damaged, or of a format this version cannot read."""


class ServingError(DemandError):
    """A model server did not start, did not answer, or answered wrongly."""


class GateRefusal(DemandError):
    """A gate said no: the run ends with exit status 2 and nothing that served changes.

    The gate is ``data``, ``checks``, ``rmse``, ``champion`` or ``production``; the reason, in
    one line, says what was observed and what was demanded.
    """

    exit_status = EXIT_GATE

    def __init__(self, gate: str, reason: str) -> None:
        super().__init__(f"the {gate} gate said no: {reason}")
        self.gate = gate
        self.reason = reason
