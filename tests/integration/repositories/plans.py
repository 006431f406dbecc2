"""The plan that the database chooses for a query."""

from collections.abc import Sequence
from typing import Any

from app.repositories.pages import Range, build_page_pipeline
from tests.support.engine import World


async def explain(world: World, collection: str, **find: Any) -> dict[str, Any]:
    """Execute a `find` command and return its plan and statistics."""
    command = {"explain": {"find": collection, **find}, "verbosity": "executionStats"}
    plan: dict[str, Any] = await world.database.collection(collection).database.command(command)
    return plan


async def explain_page(
    world: World, collection: str, found: Range, *, limit: int, without: Sequence[str] = ()
) -> dict[str, Any]:
    """Execute the first step of a page of a listing and return its plan and statistics."""
    aggregate = {
        "aggregate": collection,
        "pipeline": build_page_pipeline(found, limit=limit, without=without),
        "hint": found.hint,
        "cursor": {},
    }
    command = {"explain": aggregate, "verbosity": "executionStats"}
    response = await world.database.collection(collection).database.command(command)
    plan: dict[str, Any] = response["stages"][0]["$cursor"]
    assert not {"$sort"} & {name for stage in response["stages"] for name in stage}
    return plan


def list_stages(plan: Any) -> set[str]:
    """Return the names of all stages inside a plan."""
    if isinstance(plan, dict):
        own = {plan["stage"]} if "stage" in plan else set()
        return own.union(*(list_stages(value) for value in plan.values()))
    if isinstance(plan, list):
        return set().union(*(list_stages(value) for value in plan))
    return set()
