"""What a request may ask: the models of the bodies, and how a wrong one is refused."""

from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request

from tomohet.files.pickles import LARGEST_INDEX

MOST_BYTES = 64 * 2**20  # of a body: some million particle numbers
Ordinal = Annotated[int, Field(ge=0, le=LARGEST_INDEX)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Body = TypeVar("Body", bound=BaseModel)


class Asked(BaseModel):
    """The body of a request, or the words after ? of an address."""

    model_config = ConfigDict(extra="forbid")


class VolumeAsked(Asked):
    """POST /volume: the map at one latent point of a round's model, in a box of at most `box` px."""

    round: str
    source: Literal["linear", "network"]
    z: Annotated[list[Number], Field(max_length=4096)]
    box: Annotated[int, Field(ge=2, multiple_of=2)] | None = None


class MeanAsked(Asked):
    """POST /mean: the particles of a round by their numbers, by rows of its table, or by a query.

    refine_poses : whether each half set's poses are refined, as for the round's own half maps
    name : of the selection, as the page's list of means shows it
    """

    round: str
    name: Annotated[str, Field(max_length=200)] | None = None
    particles: list[Ordinal] | None = None
    rows: list[Ordinal] | None = None
    query: Annotated[str, Field(max_length=10_000)] | None = None
    refine_poses: bool = False


class SlabAsked(Asked):
    """GET /slab: the mean of a tomogram's sections within `thickness` around the height `z`, both in Å."""

    tomogram: str
    z: Number | None = None
    thickness: Annotated[float, Field(ge=0, le=1e5, allow_inf_nan=False)] = 100.0


async def body_of(request: Request, model: type[Body]) -> Body:
    """Read a request's JSON body.

    Raises HTTPException 400 for a body that is not as the model says, 413 for one that is too large, and 415
    for one that is not JSON by its header.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip() != "application/json":
        raise HTTPException(415, "The body must be JSON: send the header Content-Type: application/json.")
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > MOST_BYTES:
            raise HTTPException(413, f"The body is larger than {MOST_BYTES:,} bytes; ask by a query instead.")
    try:
        return model.model_validate_json(bytes(content))
    except ValidationError as error:
        raise HTTPException(400, sentence(error)) from error


def query_of(request: Request, model: type[Body]) -> Body:
    """Read the words after ? of a request's address; raises HTTPException 400 for wrong ones."""
    try:
        return model.model_validate(dict(request.query_params))
    except ValidationError as error:
        raise HTTPException(400, sentence(error)) from error


def sentence(error: ValidationError) -> str:
    """Say in one sentence what is wrong first with a request."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where}: {first['msg']}." if where else f"{first['msg']}."
