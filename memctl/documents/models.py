"""The models with which pydantic validates every value of a document to import."""

import base64
import json
import reprlib
import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic_core import PydanticCustomError

from memctl.storage.sqlite.sections import ACTIVE, ARCHIVED, HOLDS, PROMOTIONS, DocumentSection
from memctl.storage.text import from_bytes
from memctl.storage.times import to_sqlite_text

TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$"


def _require_time(text: str) -> str:
    """Refuse what has the format of a time but is not one, such as 30 February."""
    datetime.fromisoformat(text)
    return text


class Strict(BaseModel):
    """An object with exactly these names; strings are not converted to numbers."""

    model_config = ConfigDict(extra="forbid", strict=True)


def _unpack(packed: str) -> bytes:
    try:
        return base64.b64decode(packed, validate=True)
    except ValueError:
        raise PydanticCustomError("base64", "not base64") from None


class EncodedText(Strict):
    """A text that is invalid UTF-8."""

    base64: str

    def decoded(self) -> str:
        """Return the text as it is read from a database, with surrogate escapes."""
        return from_bytes(_unpack(self.base64))


class EncodedBlob(Strict):
    """A BLOB."""

    blob_base64: str

    def decoded(self) -> bytes:
        """Return the bytes."""
        return _unpack(self.blob_base64)


class EncodedReal(Strict):
    """An infinite number."""

    real: Literal["inf", "-inf"]

    def decoded(self) -> float:
        """Return the number."""
        return float(self.real)


def _no_integer(value: object) -> object:
    """Prevent an integer of more than 64 bits from being rounded to a float."""
    if isinstance(value, int):
        raise ValueError("an integer")
    return value


# The length is no real limit, but makes pydantic reject unpaired surrogates.
PlainText = Annotated[str, Field(max_length=1 << 30)]
OddText = Annotated[EncodedText, AfterValidator(EncodedText.decoded)]
Blob = Annotated[EncodedBlob, AfterValidator(EncodedBlob.decoded)]
Integer = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Real = Annotated[float, BeforeValidator(_no_integer), Field(allow_inf_nan=False)]
Infinity = Annotated[EncodedReal, AfterValidator(EncodedReal.decoded)]

in_order = Field(union_mode="left_to_right")
# SQLite stores a BLOB in any column, and in a numeric column any text that is not a number.
Name = Annotated[PlainText | OddText | Blob, in_order]
Detail = Annotated[PlainText | OddText | Blob | None, in_order]
Number = Annotated[Integer | Real | PlainText | OddText | Blob | Infinity | None, in_order]


class MemoryModel(Strict):
    """A row of the section `active`."""

    id: Detail
    agent_id: Name
    type: Name
    key: Name
    value: Name
    metadata: Detail
    importance: Number
    access_count: Number
    last_accessed: Detail
    created_at: Detail
    expires_at: Detail
    archived_at: Detail
    importance_decay_rate: Number
    last_decay_at: Detail
    promoted_at: Detail


class ArchivedMemory(MemoryModel):
    """A row of the section `archived`."""

    archived_at: Name
    archived_reason: Name
    run_id: Number


class PromotionModel(Strict):
    """A row of the section `promotions`."""

    agent_id: Name
    type: Name
    key: Name
    entry_id: Name
    content_hash: Name
    promoted_at: Name


OurTime = Annotated[str, Field(pattern=TIME), AfterValidator(_require_time)]


class HoldModel(Strict):
    """A row of the section `holds`: by id, by type and key, or on all memories of the agent."""

    agent_id: Name
    memory_id: Detail
    type: Detail
    key: Detail
    reason: Detail
    held_at: OurTime
    until: OurTime | None

    @model_validator(mode="after")
    def _require_one_way(self) -> Self:
        by_name = (self.type is not None, self.key is not None)
        if by_name not in ((True, True), (False, False)) or (
            self.memory_id is not None and any(by_name)
        ):
            raise PydanticCustomError("hold", "neither an id nor a type with a key")
        return self


class Counts(Strict):
    """How many rows each section has; `holds` is absent if there are none."""

    active: int = Field(ge=0)
    archived: int = Field(ge=0)
    promotions: int = Field(ge=0)
    holds: int = Field(default=0, ge=0)


class Frame(Strict):
    """The document without its rows."""

    format: str
    version: int
    exported_at: str
    agent_id: Annotated[PlainText | OddText | None, in_order]
    counts: Counts
    sha256: str


def completed(section: DocumentSection, row: Any, *, now: datetime, agent: str | None) -> Any:
    """Return a memory with the service's defaults in the columns that it omits.

    `agent` is the agent to which all memories are assigned, or None. The id given to an archived
    memory depends on its contents, so that a second import recognizes it.
    """
    if section in (PROMOTIONS, HOLDS) or not isinstance(row, dict):
        return row
    content = json.dumps([agent, row], sort_keys=True)
    defaults = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_OID, content) if section is ARCHIVED else uuid.uuid4()),
        **dict.fromkeys(section.columns[5:]),  # all but id, agent_id, type, key and value
        "importance": 5,
        "access_count": 0,
        "last_accessed": to_sqlite_text(now),
        "created_at": to_sqlite_text(now),
    }
    return defaults | row


ROWS: dict[str, TypeAdapter[list[Any]]] = {
    ACTIVE.name: TypeAdapter(list[MemoryModel]),
    ARCHIVED.name: TypeAdapter(list[ArchivedMemory]),
    PROMOTIONS.name: TypeAdapter(list[PromotionModel]),
    HOLDS.name: TypeAdapter(list[HoldModel]),
}


def check_rows(
    section: DocumentSection, rows: Sequence[object], *, first: int
) -> list[tuple[Any, ...]]:
    """Return the values of rows in the order of the columns; `first` is the first row's number.

    Raises ValueError, whose arguments are the problems, each with row and column.
    """
    try:
        checked = ROWS[section.name].validate_python(rows)
    except ValidationError as error:
        raise ValueError(*_problems(error, section, first)) from None
    return [tuple(vars(row).values()) for row in checked]


def check_frame(found: object) -> Frame:
    """Return the document without its rows.

    Raises ValueError, whose arguments are the problems.
    """
    try:
        return Frame.model_validate(found)
    except ValidationError as error:
        problems = [
            _problem(".".join(map(str, detail["loc"][:2])), [detail]) for detail in error.errors()
        ]
        raise ValueError(*dict.fromkeys(problems)) from None


def _problems(error: ValidationError, section: DocumentSection, first: int) -> list[str]:
    """Return one problem for each row and column, however many types were tried."""
    found: dict[str, list[Any]] = {}
    for detail in error.errors(include_url=False, include_context=False):
        number, *column = detail["loc"]
        where = f"{section.name} row {first + int(number)}"
        if column:
            where += f", {str(column[0])[:40]}"
        found.setdefault(where, []).append(detail)
    return [_problem(where, details) for where, details in found.items()]


# If several types were tried, the first of these errors is the most specific.
SPECIFIC_PROBLEMS = {
    "string_unicode": "has an unpaired surrogate",
    "base64": "is not base64",
    "missing": "is missing",
    "extra_forbidden": "is unknown",
    "model_type": "is not an object",
    "hold": "must have an id, or a type and a key, or neither",
}


def _problem(where: str, details: Sequence[Any]) -> str:
    kinds = {detail["type"] for detail in details}
    if len(details) > 1:
        kinds &= {"string_unicode", "base64"}
    for kind, problem in SPECIFIC_PROBLEMS.items():
        if kind in kinds:
            return f"{where}: {problem}"
    return f"{where}: invalid value {reprlib.repr(details[0]['input'])}"
