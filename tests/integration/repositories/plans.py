"""The plan that the database chooses for a query."""

from typing import Any

from tests.support.engine import World


async def explain(world: World, collection: str, **find: Any) -> dict[str, Any]:
    """Execute a `find` command and return its plan and statistics."""
    command = {"explain": {"find": collection, **find}, "verbosity": "executionStats"}
    plan: dict[str, Any] = await world.database.collection(collection).database.command(command)
    return plan


def list_stages(plan: Any) -> set[str]:
    """Return the names of all stages inside a plan."""
    if isinstance(plan, dict):
        own = {plan["stage"]} if "stage" in plan else set()
        return own.union(*(list_stages(value) for value in plan.values()))
    if isinstance(plan, list):
        return set().union(*(list_stages(value) for value in plan))
    return set()
