"""Reads grants from a token's claim or a table of settings."""

from __future__ import annotations

from typing import Final

from pydantic import ValidationError

from distributor.errors import InvalidArgument
from distributor.identity.grants import Grant, Grants

MAX_GRANTS: Final = 50
NOTHING: Final = Grants(())


def grants_of(value: object) -> Grants:
    """The grants of a list of objects with `agents`, `labels` and `types`. An empty list permits nothing.

    Raises InvalidArgument that names the place.
    """
    if not isinstance(value, list | tuple) or len(value) > MAX_GRANTS:
        raise InvalidArgument(f"grants must be a list of at most {MAX_GRANTS} objects", field="grants")
    return Grants(tuple(_grant(item, f"grants[{place}]") for place, item in enumerate(value)))


def _grant(item: object, place: str) -> Grant:
    try:
        return Grant.model_validate(item)
    except ValidationError as error:
        details = error.errors(include_url=False, include_input=False)[0]
        path = ".".join([place, *map(str, details["loc"])])
        raise InvalidArgument(f"{path} is not valid: {details['msg']}", field=path) from error
