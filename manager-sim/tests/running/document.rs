//! The API's document, and whether an answer is one that it has.

use manager_sim::router::routes;
use reqwest::{RequestBuilder, Response};
use serde_json::{Value, json};

/// The document, as it is served.
pub(crate) fn document() -> Value {
    serde_json::from_str(include_str!("../../src/router/openapi.json")).unwrap()
}

/// Sends a request, and holds the answer against the document if the API gave it.
pub(crate) async fn sends(request: RequestBuilder) -> Response {
    let (client, request) = request.build_split();
    let request = request.unwrap();
    let (method, path) = (
        request.method().to_string(),
        request.url().path().to_owned(),
    );
    let answer = client.execute(request).await.unwrap();
    if !path.starts_with("/api/") {
        return answer;
    }
    let (status, headers) = (answer.status(), answer.headers().clone());
    let body = answer.bytes().await.unwrap();
    let kind = headers["content-type"].to_str().unwrap();
    check(&method, &path, status.as_u16(), kind, &body);
    let mut whole = http::Response::new(body);
    (*whole.status_mut(), *whole.headers_mut()) = (status, headers);
    whole.into()
}

/// Fails unless the document has such an answer to `method path`.
pub(crate) fn check(method: &str, path: &str, status: u16, kind: &str, body: &[u8]) {
    let document = document();
    let asked = format!("{method} {path}: {status} {kind}");
    let verb = if method == "HEAD" {
        "get"
    } else {
        &method.to_lowercase()
    };
    let operation = routes::find(path).map(|(route, _)| &document["paths"][route.path][verb]);
    let answer = match operation.filter(|operation| operation.is_object()) {
        Some(operation) => &operation["responses"][status.to_string()],
        // What is no operation is answered in the same way everywhere.
        None => match status {
            401 => &document["components"]["responses"]["Unauthorized"],
            403 => &document["components"]["responses"]["Forbidden"],
            404 => &document["components"]["responses"]["NotFound"],
            405 => &document["components"]["responses"]["MethodNotAllowed"],
            421 => &document["components"]["responses"]["MisdirectedRequest"],
            _ => panic!("no operation is documented: {asked}"),
        },
    };
    let answer = resolved(&document, answer);
    assert!(answer.is_object(), "the status is not documented: {asked}");
    let kind = kind.split(';').next().unwrap();
    // Whoever takes HTML gets a page in place of an error.
    if method == "HEAD" || (status >= 400 && kind == "text/html") {
        return;
    }
    let schema = &answer["content"][kind]["schema"];
    assert!(schema.is_object(), "the kind is not documented: {asked}");
    let value = match kind {
        "application/json" => serde_json::from_slice(body).unwrap(),
        _ => json!(std::str::from_utf8(body).unwrap()),
    };
    let wrong = wrong(&document, schema, &value);
    assert!(wrong.is_empty(), "{asked}: {wrong:#?}\n{value}");
}

/// What a schema of the document has against a value.
pub(crate) fn wrong(document: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut schema = schema.clone();
    schema["components"] = document["components"].clone();
    let validator = jsonschema::draft202012::new(&schema).unwrap();
    let errors = validator.iter_errors(value);
    let told = errors.map(|error| format!("{}: {error}", error.instance_path()));
    told.collect()
}

/// What is meant, where something is named by its place in the document.
pub(crate) fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(place) => document.pointer(place.trim_start_matches('#')).unwrap(),
        None => value,
    }
}
