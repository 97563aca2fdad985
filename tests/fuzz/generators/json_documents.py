"""JSON documents: sound ones by a JSON Schema, and texts that are almost such documents."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final

from tests.fuzz.generators.byte_changes import changed
from tests.fuzz.generators.vocabulary import Vocabulary

MOST_NESTING: Final = 16_384
ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    0,
    1.5,
    10**400,
    -(10**30),
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x" * 70_000,
    "\x00",
    "\ud800",
    "\u202e\x1b[2J",
    [],
    {},
    [[[]]],
    {"": {"__proto__": 1}},
    ["*"] * 2_000,
)


class JsonDocuments:
    """Makes documents of the types that a schema defines. Knows the keywords that the project's schemas use."""

    def __init__(self, schema: Mapping[str, Any], vocabulary: Vocabulary) -> None:
        self._schema = schema
        self._vocabulary = vocabulary

    def sound(self, rng: Random, of: Mapping[str, Any], name: str = "") -> Any:
        """Return a document that a part of the schema allows, patterns aside; `name` is that of its field."""
        if "$ref" in of:
            ref = str(of["$ref"]).rpartition("/")[2]
            return self.sound(rng, self._schema["$defs"][ref], name or ref)
        for keyword in ("oneOf", "anyOf"):
            if keyword in of:
                return self.sound(rng, rng.choice(of[keyword]), name)
        if "const" in of:
            return of["const"]
        if "enum" in of:
            return rng.choice(of["enum"])
        kinds = of.get("type", "object")
        make = self._makers()[kinds if isinstance(kinds, str) else rng.choice(kinds)]
        return make(rng, of, name)

    def odd_text(self, rng: Random, of: Mapping[str, Any]) -> str:
        """Return a text to send instead of such a document."""
        choice = rng.random()
        if choice < 0.1:
            return nested(rng)
        document = self.sound(rng, of)
        if choice < 0.6:
            document = misplaced(rng, document)
        text = json.dumps(document)
        if choice < 0.8:
            return text
        return changed(rng, text.encode()).decode(errors="replace")

    def _makers(self) -> Mapping[str, Callable[[Random, Mapping[str, Any], str], Any]]:
        return {
            "object": self._object,
            "array": lambda rng, of, name: [
                self.sound(rng, of.get("items", {"type": "string"}), name) for _ in range(rng.randint(0, 3))
            ],
            "string": lambda rng, of, name: self._vocabulary.text(rng, name),
            "integer": lambda rng, of, name: rng.randint(int(of.get("minimum", 0)), int(of.get("maximum", 1_000))),
            "number": lambda rng, of, name: rng.uniform(of.get("minimum", 0), of.get("maximum", 1_000)),
            "boolean": lambda rng, of, name: rng.random() < 0.5,
            "null": lambda rng, of, name: None,
        }

    def _object(self, rng: Random, of: Mapping[str, Any], name: str) -> dict[str, Any]:
        required = of.get("required", ())
        chosen = {
            key: self.sound(rng, part, key)
            for key, part in of.get("properties", {}).items()
            if key in required or rng.random() < 0.5
        }
        return chosen or {"text": "some", "number": rng.randint(0, 9)}


def misplaced(rng: Random, document: Any) -> Any:
    """Return the document with one value, at any depth, replaced by an odd one."""
    if isinstance(document, dict) and document and rng.random() < 0.9:
        key = rng.choice(list(document))
        return document | {key: misplaced(rng, document[key])}
    if isinstance(document, list) and document and rng.random() < 0.5:
        place = rng.randrange(len(document))
        return [*document[:place], misplaced(rng, document[place]), *document[place + 1 :]]
    return rng.choice(ODD)


def nested(rng: Random) -> str:
    """Return a text of lists or objects in one another, closed or not."""
    levels = 1 << rng.randint(4, MOST_NESTING.bit_length() - 1)
    opened, closed = rng.choice((("[", "]"), ('{"a":', "}"), ('{"type":', "}"), ('{"params":', "}")))
    return opened * levels + ("1" + closed * levels if rng.random() < 0.5 else "")
