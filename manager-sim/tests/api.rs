//! The API's document: that it has every route and nothing else, and that its examples hold.

use std::{collections::BTreeSet, fs};

use manager_sim::router::routes::ROUTES;
use reqwest::{Client, Method, StatusCode};
use serde_json::Value;

#[expect(dead_code, reason = "others ask as browsers")]
mod running;

use running::{
    Running, command,
    document::{self, document, resolved},
};

#[test]
fn the_document_has_every_route_and_nothing_else() {
    let document = document();
    let documented: BTreeSet<String> = operations(&document)
        .map(|(path, method, _)| format!("{} {path}", method.to_uppercase()))
        .collect();
    let served = ROUTES.iter().flat_map(|route| {
        let methods = route.methods.iter();
        methods.map(|(method, _)| format!("{method} {}", route.path))
    });
    assert_eq!(documented, served.collect());
}

#[test]
fn all_that_is_named_is_there_and_needed() {
    let document = document();
    let mut named = BTreeSet::new();
    names(&document, &mut named);
    for place in &named {
        assert!(
            document.pointer(place.trim_start_matches('#')).is_some(),
            "{place}"
        );
    }
    for kind in ["parameters", "responses", "schemas"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            // For what is no operation, and so is named by none.
            let by_nobody = name == "MethodNotAllowed";
            let place = format!("#/components/{kind}/{name}");
            assert!(by_nobody || named.contains(&place), "{place} is of no use");
        }
    }
}

#[test]
fn every_parameter_of_a_path_is_documented() {
    let document = document();
    for (path, method, operation) in operations(&document) {
        let all = operation["parameters"].as_array().unwrap();
        let has_id = all
            .iter()
            .any(|one| resolved(&document, one)["in"] == "path");
        assert_eq!(has_id, path.contains("{id}"), "{method} {path}");
        let changes = all
            .iter()
            .any(|one| resolved(&document, one)["name"] == "X-Hpc-Manager");
        assert_eq!(changes, method != "get", "{method} {path}");
    }
}

#[test]
fn every_example_of_an_answer_is_one() {
    let document = document();
    let mut count = 0;
    for (path, method, operation) in operations(&document) {
        for (status, answer) in operation["responses"].as_object().unwrap() {
            for content in contents(resolved(&document, answer)) {
                for (name, example) in examples(content) {
                    let wrong = document::wrong(&document, &content["schema"], example);
                    assert!(
                        wrong.is_empty(),
                        "{method} {path} {status} {name}: {wrong:?}"
                    );
                    count += 1;
                }
            }
        }
    }
    assert!(count > 5, "{count}");
}

/// By the manager's own socket, which every call can be tried at without a browser.
#[tokio::test]
async fn every_example_of_a_call_is_taken() {
    let directory = tempfile::tempdir().unwrap();
    let mut serves = command(directory.path());
    fs::write(directory.path().join("ssh_config"), "").unwrap();
    serves.args([
        "--listen",
        "127.0.0.1:0",
        "--login",
        "alice@login",
        "--max-sessions",
        "40",
    ]);
    serves
        .arg("--ssh-config")
        .arg(directory.path().join("ssh_config"));
    let (_process, url, _) = Running::start(&mut serves);
    let client =
        Client::builder().unix_socket(running::state_dir(directory.path()).join("api.sock"));
    let client = client.build().unwrap();
    let asks = async |method: Method, path: &str, body: Option<&Value>| {
        let request = client.request(method, format!("http://localhost{path}"));
        let request = request.header("x-hpc-manager", "1");
        let body = body.map(ToString::to_string).unwrap_or_default();
        document::sends(request.body(body)).await
    };
    let document = document();
    let mut count = 0;
    for (path, method, operation) in operations(&document) {
        for content in contents(&operation["requestBody"]) {
            for (name, example) in examples(content) {
                let method = Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
                let wrong = document::wrong(&document, &content["schema"], example);
                assert!(wrong.is_empty(), "{path} {name}: {wrong:?}");
                let answer = asks(method, path, Some(example)).await;
                assert_eq!(answer.status(), StatusCode::ACCEPTED, "{path} {name}");
                count += 1;
            }
        }
    }
    assert!(count > 3, "{count}");

    // What is served is the document, and each of its reads and errors is as it says.
    let served: Value = asks(Method::GET, "/api/v1/openapi.json", None)
        .await
        .json()
        .await
        .unwrap();
    assert_eq!(served, document);
    let listed: Value = asks(Method::GET, "/api/v1/sessions", None)
        .await
        .json()
        .await
        .unwrap();
    let id = listed["sessions"][0]["id"].as_str().unwrap();
    for (method, path, status) in [
        (Method::GET, "/api/v1/session", 200),
        (Method::HEAD, "/api/v1/session", 200),
        (Method::GET, "/api/v1/ports", 200),
        (Method::GET, "/api/v1/sessions/ID", 200),
        (Method::GET, "/api/v1/sessions/ID/log", 404),
        (Method::GET, "/api/v1/sessions/ID/log?from=x", 400),
        (Method::GET, "/api/v1/sessions/zzzzzzzz", 404),
        (Method::DELETE, "/api/v1/sessions/ID", 202),
        (Method::DELETE, "/api/v1/session", 202),
        (Method::PUT, "/api/v1/sessions/ID", 405),
        (Method::POST, "/api/v1/openapi.json", 405),
        (Method::GET, "/api/v1/nothing", 404),
        (Method::GET, "/", 404),
    ] {
        let shown = format!("{method} {path}");
        let answer = asks(method, &path.replace("ID", id), None).await;
        assert_eq!(answer.status().as_u16(), status, "{shown}");
    }
    // A stranger is told nothing, not even this.
    let stranger = Client::new().get(format!("{url}/api/v1/openapi.json"));
    assert_eq!(
        document::sends(stranger).await.status(),
        StatusCode::UNAUTHORIZED
    );
}

/// Each path, method and what is said of it.
fn operations(document: &Value) -> impl Iterator<Item = (&String, &String, &Value)> {
    let paths = document["paths"].as_object().unwrap().iter();
    paths.flat_map(|(path, all)| {
        let all = all.as_object().unwrap().iter();
        all.map(move |(method, operation)| (path, method, operation))
    })
}

fn contents(holder: &Value) -> impl Iterator<Item = &Value> {
    let all = holder["content"].as_object();
    all.into_iter().flat_map(|all| all.values())
}

fn examples(content: &Value) -> impl Iterator<Item = (&String, &Value)> {
    let all = content["examples"].as_object();
    let all = all.into_iter().flatten();
    all.map(|(name, example)| (name, &example["value"]))
}

/// Every place that is named below `value`.
fn names(value: &Value, named: &mut BTreeSet<String>) {
    if let Some(place) = value["$ref"].as_str() {
        named.insert(place.to_owned());
    }
    match value {
        Value::Object(all) => all.values().for_each(|value| names(value, named)),
        Value::Array(all) => all.iter().for_each(|value| names(value, named)),
        _ => {}
    }
}
