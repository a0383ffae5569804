"""The OpenAPI document of the HTTP server."""

from collections.abc import Mapping

from act2see._version import __version__
from act2see.storage.codec import JSON

_TEXT: Mapping[str, JSON] = {"type": "string"}
_WHOLE: Mapping[str, JSON] = {"type": "integer"}
_ERRORS: Mapping[str, str] = {
    "400": "A request that cannot be answered as it is.",
    "401": "A wrong or missing API key.",
    "403": "A Host header that does not name this server.",
    "404": "An unknown model, file or address.",
    "408": "A body that takes too long.",
    "413": "A body that is too large.",
    "415": "Another content type.",
    "429": "All places are taken; Retry-After says when to come back.",
    "500": "The model or a tool failed.",
    "502": "The server behind the model failed.",
    "503": "The server is shutting down.",
    "504": "No answer within the deadline.",
}


def document(model: str, *, has_key: bool) -> dict[str, JSON]:
    """The document for a server of this model; with a key if requests need one."""
    paths: dict[str, JSON] = {
        "/v1/chat/completions": {
            "post": _operation(
                "ask",
                "Ask a question about a video.",
                {"application/json": {"schema": _ref("ChatRequest")}},
                {"application/json": {"schema": _ref("ChatCompletion")}, "text/event-stream": {"schema": _TEXT}},
                ("400", "404", "408", "413", "415", "429", "500", "502", "503", "504"),
            )
        },
        "/v1/files": {
            "post": _operation(
                "upload",
                "Upload a video for later questions.",
                {"multipart/form-data": {"schema": _object({"file": {"type": "string", "format": "binary"}, "purpose": _TEXT}, "file")}},
                {"application/json": {"schema": _ref("File")}},
                ("400", "408", "413", "415", "429", "500", "503"),
            )
        },
        "/v1/files/{id}": {
            "parameters": [{"name": "id", "in": "path", "required": True, "schema": _TEXT}],
            "get": _operation("describeUpload", "Describe an upload.", None, {"application/json": {"schema": _ref("File")}}, ("404",)),
            "delete": _operation(
                "deleteUpload",
                "Delete an upload.",
                None,
                {"application/json": {"schema": _object({"id": _TEXT, "object": _TEXT, "deleted": {"type": "boolean"}}, "id", "deleted")}},
                ("404",),
            ),
        },
        "/v1/models": {
            "get": _operation(
                "listModels",
                "List the server's model.",
                None,
                {"application/json": {"schema": _object({"object": _TEXT, "data": {"type": "array", "items": _ref("Model")}}, "data")}},
                (),
            )
        },
        "/v1/models/{name}": {
            "parameters": [{"name": "name", "in": "path", "required": True, "schema": _TEXT}],
            "get": _operation("describeModel", "Describe a model.", None, {"application/json": {"schema": _ref("Model")}}, ("404",)),
        },
        "/health": {
            "get": {
                **_operation("health", "Whether new questions are taken.", None, {"application/json": {"schema": _ref("Health")}}, ()),
                "security": [],
            }
        },
        "/metrics": {"get": _operation("metrics", "Counters for Prometheus.", None, {"text/plain": {"schema": _TEXT}}, ())},
        "/openapi.json": {"get": _operation("document", "This document.", None, {"application/json": {"schema": {"type": "object"}}}, ())},
    }
    security: dict[str, JSON] = {"security": [{"key": []}]} if has_key else {}
    components: dict[str, JSON] = {"schemas": _schemas(model), "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}}}
    info: dict[str, JSON] = {"title": "act2see", "version": __version__, "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"}}
    return {"openapi": "3.1.0", "info": info, "paths": paths, "components": components, **security}


def _operation(name: str, summary: str, body: Mapping[str, JSON] | None, answer: Mapping[str, JSON], errors: tuple[str, ...]) -> dict[str, JSON]:
    refused: dict[str, JSON] = {
        status: {"description": _ERRORS[status], "content": {"application/json": {"schema": _ref("Error")}}} for status in ("401", "403", *errors)
    }
    request: dict[str, JSON] = {} if body is None else {"requestBody": {"required": True, "content": body}}
    responses: dict[str, JSON] = {"200": {"description": "OK", "content": answer}, **refused}
    return {"operationId": name, "summary": summary, **request, "responses": responses}


def _ref(name: str) -> dict[str, JSON]:
    return {"$ref": f"#/components/schemas/{name}"}


def _object(properties: Mapping[str, JSON], *required: str, closed: bool = False) -> dict[str, JSON]:
    more: dict[str, JSON] = {"additionalProperties": False} if closed else {}
    return {"type": "object", "properties": properties, "required": list(required), **more}


def _maybe(schema: Mapping[str, JSON]) -> dict[str, JSON]:
    return {"anyOf": [schema, {"type": "null"}]}


def _schemas(model: str) -> dict[str, JSON]:
    numbers: dict[str, JSON] = {"type": "object", "additionalProperties": {"type": "number"}}
    return {
        "ChatRequest": _object(
            {
                "model": {"type": "string", "examples": [model]},
                "messages": {"type": "array", "items": _ref("Message"), "minItems": 1},
                "stream": _maybe({"type": "boolean"}),
                "stream_options": _maybe(_object({"include_usage": {"type": "boolean"}})),
                "n": _maybe({"type": "integer", "const": 1}),
                "act2see": _maybe(
                    _object(
                        {
                            "choices": {"type": "array", "items": _TEXT, "description": "Answer choices; the answer is one of them."},
                            "max_looks": _maybe({"type": "integer", "minimum": 0, "description": "Fewer looks than the server allows."}),
                        },
                        closed=True,
                    )
                ),
            },
            "model",
            "messages",
        ),
        "Message": _object({"role": _TEXT, "content": {"anyOf": [_TEXT, {"type": "array", "items": _ref("Part")}, {"type": "null"}]}}, "role"),
        "Part": _object(
            {
                "type": {"type": "string", "enum": ["text", "video_url", "file"]},
                "text": _maybe(_TEXT),
                "video_url": _maybe(
                    _object({"url": {"type": "string", "description": "A data URL, an upload's id, a path, or an http(s) address."}}, "url")
                ),
                "file": _maybe(_object({"file_id": _TEXT}, "file_id")),
            },
            "type",
        ),
        "ChatCompletion": _object(
            {
                "id": _TEXT,
                "object": {"type": "string", "const": "chat.completion"},
                "created": _WHOLE,
                "model": _TEXT,
                "choices": {"type": "array", "items": {"type": "object"}, "minItems": 1},
                "usage": {"type": "object"},
                "act2see": _ref("Evidence"),
            },
            "id",
            "choices",
            "usage",
            "act2see",
        ),
        "Evidence": _object(
            {
                "id": _TEXT,
                "video": _TEXT,
                "duration_seconds": {"type": ["number", "null"]},
                "finish": {"type": ["string", "null"]},
                "choice": {"type": ["integer", "null"]},
                "frames": {"type": "array", "items": _ref("Frame")},
                "steps": {"type": "array", "items": _object({"type": _TEXT}, "type")},
                "looks": _WHOLE,
                "cost": _object(
                    {
                        "tokens_in": _WHOLE,
                        "tokens_out": _WHOLE,
                        "tokens_reused": _WHOLE,
                        "seconds": numbers,
                        "total_seconds": {"type": "number"},
                        "flops": {"type": "object", "additionalProperties": {"type": ["number", "null"]}},
                    }
                ),
                "made_with": {"type": "object", "additionalProperties": _TEXT},
                "notice": {"type": ["string", "null"]},
                "ignored": {"type": "array", "items": _TEXT},
            },
            "frames",
            "steps",
            "cost",
        ),
        "Frame": _object(
            {
                "seconds": {"type": ["number", "null"]},
                "imagined": {"type": "boolean"},
                "sha256": _TEXT,
                "width": _WHOLE,
                "height": _WHOLE,
                "score": {"type": "number"},
            },
            "seconds",
            "imagined",
            "sha256",
        ),
        "File": _object(
            {"id": _TEXT, "object": {"const": "file"}, "bytes": _WHOLE, "created_at": _WHOLE, "expires_at": _WHOLE, "filename": _TEXT},
            "id",
            "bytes",
        ),
        "Model": _object({"id": _TEXT, "object": {"const": "model"}, "created": _WHOLE, "owned_by": _TEXT}, "id"),
        "Health": _object({"status": {"type": "string", "enum": ["ok", "draining"]}, "running": _WHOLE, "waiting": _WHOLE}, "status"),
        "Error": _object(
            {
                "error": _object(
                    {"message": _TEXT, "type": _TEXT, "param": {"type": ["string", "null"]}, "code": {"type": ["string", "null"]}},
                    "message",
                    "type",
                    "code",
                )
            },
            "error",
        ),
    }
