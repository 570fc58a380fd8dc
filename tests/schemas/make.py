"""Makes the excerpts of published schemas beside this file, which the tests hold manifests against.

    edgelesspart export parts --format kserve --out services
    pip install kserve kubernetes pyyaml cloudcoil-models-knative-serving google-api-python-client
    python tests/schemas/make.py services/cloud

Of each schema that is kept which the manifests use, with its types and what must be there; what a schema doesn't
have ends this with an error, as it fails the tests once the excerpts are made. Sources, all Apache-2.0: KServe's
InferenceService and the Kubernetes types within by the models of the PyPI packages kserve and kubernetes, made of
their OpenAPI documents; Knative's Service by the package cloudcoil-models-knative-serving, made of Knative's
custom resource definition; Cloud Run's by the discovery document run.v1 in google-api-python-client.
"""

import importlib.metadata
import importlib.util
import inspect
import json
import pathlib
import re
import sys

import yaml

HERE = pathlib.Path(__file__).parent
# What manifests for a GPU use besides.
MORE = {"cloud-run": [{"spec": {"template": {"spec": {"nodeSelector": {}}}}}]}
SCALARS = {"str": "string", "int": "integer", "bool": "boolean", "float": "number"}


def fail(path, what):
    sys.exit(f"{'.'.join(path)}: {what}")


def generated(name, value, path=()):
    """By the models that the OpenAPI generator makes: openapi_types, attribute_map."""
    import kserve
    import kubernetes.client

    if name in SCALARS:
        return {"type": SCALARS[name]}
    if name in ("object", "IntOrString"):
        return {}
    if found := re.fullmatch(r"[lL]ist\[(.*)\]", name):
        return {"type": "array", "items": merge(*[generated(found[1], v, path) for v in value])}
    if found := re.fullmatch(r"[dD]ict[\[(]str, (.*)[\])]", name):
        return {"type": "object", "additionalProperties": generated(found[1], None, path)}
    model = getattr(kserve, name, None) or getattr(kubernetes.client, name)
    types, names = model.openapi_types, {v: k for k, v in model.attribute_map.items()}
    properties = {}
    for key, one in value.items():
        if key not in names:
            fail(path, f"{name} has no {key}")
        properties[key] = generated(types[names[key]], one, (*path, key))
    if hasattr(model, "model_fields"):
        needed = lambda own: own in model.model_fields and model.model_fields[own].is_required()
    else:
        needed = lambda own: "must not be `None`" in inspect.getsource(getattr(model, own).fset)
    required = [key for key, own in names.items() if needed(own)]
    return {"type": "object", "properties": properties, "required": sorted(required)}


def document(schema, definitions, value, path=()):
    """By a JSON schema whose definitions are named by $ref."""
    while True:
        if "$ref" in schema:
            schema = definitions[schema["$ref"].split("/")[-1]]
        elif "anyOf" in schema:
            some = [s for s in schema["anyOf"] if s.get("type") != "null"]
            if len(some) > 1:
                return {}
            schema = some[0]
        else:
            break
    kind = schema.get("type")
    if kind == "array":
        return {"type": kind, "items": merge(*[document(schema["items"], definitions, v, path) for v in value])}
    if kind == "object" and "properties" in schema:
        properties = {}
        for key, one in value.items():
            if key not in schema["properties"]:
                fail(path, f"has no {key}")
            properties[key] = document(schema["properties"][key], definitions, one, (*path, key))
        return {"type": kind, "properties": properties, "required": sorted(schema.get("required", []))}
    if kind == "object":
        more = schema.get("additionalProperties", {})
        return {"type": kind, "additionalProperties": document(more, definitions, None) if isinstance(more, dict) else {}}
    return {"type": kind} if kind else {}


def merge(first, *others):
    """One schema for several values of the same type."""
    for other in others:
        for key, value in other.items():
            if key in ("properties",):
                mine = first.setdefault(key, {})
                for name, schema in value.items():
                    mine[name] = merge(mine[name], schema) if name in mine else schema
            elif key == "items":
                first[key] = merge(first[key], value)
    return first


def knative(value):
    # The models alone: the package around them wants more than its schema takes.
    from cloudcoil.models.knative_serving.serving import v1

    whole = v1.Service.model_json_schema(by_alias=True)
    return document(whole, whole["$defs"], value)


def cloud_run(value):
    found = importlib.util.find_spec("googleapiclient").submodule_search_locations[0]
    whole = json.loads((pathlib.Path(found) / "discovery_cache/documents/run.v1.json").read_text())["schemas"]
    return document(whole["Service"], whole, value)


def main():
    folder = pathlib.Path(sys.argv[1])
    for name, make, package in [
        ("kserve", lambda v: generated("V1beta1InferenceService", v), "kserve"),
        ("knative", knative, "cloudcoil-models-knative-serving"),
        ("cloud-run", cloud_run, "google-api-python-client"),
    ]:
        manifests = [yaml.safe_load((folder / server / f"{name}.yaml").read_text()) for server in ("agent", "triton")]
        manifests += MORE.get(name, [])
        schema = merge(*[make(manifest) for manifest in manifests])
        said = {"source": f"{package} {importlib.metadata.version(package)} (PyPI)", "licence": "Apache-2.0", "schema": schema}
        (HERE / f"{name}.json").write_text(json.dumps(said, indent=1, sort_keys=True) + "\n")


main()
