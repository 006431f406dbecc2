"""What every stored shape has in common."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen value. Unknown fields of a stored document are ignored, so that a document written
    by a newer release does not stop an older process during a rolling restart."""

    model_config = ConfigDict(frozen=True, extra="ignore")
