"""`python -m tests.api.update_openapi` stores the current OpenAPI document as the snapshot."""

import json
from pathlib import Path

from app.main import create_app

SNAPSHOT = Path(__file__).with_name("openapi.json")


def build_document() -> str:
    """Return the OpenAPI document in the form of the snapshot."""
    return json.dumps(create_app().openapi(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    SNAPSHOT.write_text(build_document())
