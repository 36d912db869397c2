# SPDX-License-Identifier: Apache-2.0
"""Calls of the engine's API held against moby's own description of it (Debian's package
golang-github-docker-docker-dev has version 1.41). The difficulty: JSON Schema lets unknown members
pass, and so does the engine: a misspelt setting would be ignored for ever, so they are sought here."""
import functools
import json
import pathlib
import re
import subprocess
import tempfile

import jsonschema
import yaml

PACKAGE = "golang-github-docker-docker-dev"
MEMBER = "./usr/share/gocode/src/github.com/docker/docker/api/swagger.yaml"
CACHE = pathlib.Path(__file__).parents[2] / "build/engine-api.yaml"


def description():
    """The file's text. The package itself would bring hundreds of others along, so it is unpacked
    for this one file, once."""
    if not CACHE.exists():
        with tempfile.TemporaryDirectory() as there:
            run = functools.partial(subprocess.run, cwd=there, check=True, capture_output=True)
            run(["apt-get", "download", PACKAGE])
            (package,) = pathlib.Path(there).glob("*.deb")
            tar = run(["dpkg-deb", "--fsys-tarfile", str(package)]).stdout
            text = run(["tar", "-xO", MEMBER], input=tar).stdout
        CACHE.parent.mkdir(exist_ok=True)
        CACHE.write_bytes(text)
    return CACHE.read_text()


class Schema:
    """Tells what is wrong with a call."""

    def __init__(self):
        self.api = yaml.load(description(), Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        self.resolver = jsonschema.RefResolver("", self.api)
        self.paths = [(template(path), path) for path in self.api["paths"]]

    def wrong(self, call):
        """Words about everything that is wrong with it; none if all is right."""
        operation, found = self.operation(call)
        if operation is None:
            return [f"{call.method} {call.path}: no such operation"]
        shared = self.api["paths"][found].get("parameters", [])
        parameters = [*shared, *operation.get("parameters", [])]
        words = [f"query {w}" for w in wrong_query(call.query, parameters)]
        words += self._wrong_body(call.body, parameters)
        return [f"{call.method} {call.path}: {w}" for w in words]

    def operation(self, call):
        """The operation and its path, with plain paths before those with parameters."""
        path = re.sub(r"^/v1\.[0-9]+", "", call.path)
        fits = [found for pattern, found in self.paths if pattern.match(path)]
        for found in sorted(fits, key=lambda one: one.count("{")):
            operation = self.api["paths"][found].get(call.method.lower())
            if operation:
                return operation, found
        return None, None

    def _wrong_body(self, body, parameters):
        schemas = [p["schema"] for p in parameters if p["in"] == "body"]
        if not schemas:
            return ["a body where none belongs"] if body else []
        if schemas[0].get("type") == "string":
            return []  # an archive
        if not body:
            return []
        value = json.loads(body)
        validator = jsonschema.Draft4Validator(schemas[0], resolver=self.resolver)
        words = [f"{list(e.absolute_path)}: {e.message}" for e in validator.iter_errors(value)]
        return words + [f"{where}: not in the API" for where in self._unknown(schemas[0], value)]

    # --- members that the API does not have -------------------------------------------------------

    def _unknown(self, schema, value, where="body"):
        """Places of members that no part of the schema names."""
        parts = list(self._parts(schema))
        if isinstance(value, list):
            for part in parts:
                for n, item in enumerate(value if "items" in part else ()):
                    yield from self._unknown(part["items"], item, f"{where}[{n}]")
        if not isinstance(value, dict):
            return
        for key, item in value.items():
            known = [p["properties"][key] for p in parts if key in p.get("properties", {})]
            others = [p["additionalProperties"] for p in parts if "additionalProperties" in p]
            for one in known or [other for other in others if isinstance(other, dict)]:
                yield from self._unknown(one, item, f"{where}.{key}")
            if not known and not others:
                yield f"{where}.{key}"

    def _parts(self, schema):
        """The schema, what it refers to, and all of `allOf`."""
        if "$ref" in schema:
            yield from self._parts(self.resolver.resolve(schema["$ref"])[1])
            return
        yield schema
        for part in schema.get("allOf", []):
            yield from self._parts(part)


def template(path):
    """A path of the description as a regular expression; an image's name may have slashes."""
    words = re.split(r"(\{[^}]*\})", path)
    inside = ".+" if path.startswith("/images/") else "[^/]+"
    return re.compile("".join(inside if w.startswith("{") else re.escape(w) for w in words) + "$")


def wrong_query(query, parameters):
    """Unknown parameters, missing ones, and values of another type."""
    known = {p["name"]: p for p in parameters if p["in"] == "query"}
    for key, value in query.items():
        kind = known.get(key, {}).get("type")
        if key not in known:
            yield f"{key}: not in the API"
        elif kind == "integer" and not re.fullmatch(r"-?\d+", value):
            yield f"{key}={value}: not an integer"
        elif kind == "boolean" and value not in ("0", "1", "true", "false"):
            yield f"{key}={value}: not a boolean"
    for name, parameter in known.items():
        if parameter.get("required") and name not in query:
            yield f"{name}: missing"
