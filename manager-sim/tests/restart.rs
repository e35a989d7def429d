//! What outlives a manager that is killed: sessions and signed-in browsers.

use std::{
    fs,
    time::{Duration, Instant},
};

use reqwest::{Client, Method, Response, StatusCode, redirect::Policy};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

mod running;

use running::{DEADLINE, PAGE, Running, WINDOW, document, key_of, site::Site};

struct Manager {
    process: Running,
    browser: Client,
    url: String,
    links: Vec<String>,
}

impl Site {
    /// A manager that listens at `place`, and a browser of alice's that is signed in there.
    async fn starts(&self) -> Manager {
        let mut command = self.command();
        let (process, url, lines) = Running::start(command.args(["--listen", "127.0.0.1:0"]));
        let links = lines
            .take(2)
            .map(|line| line.split_once(' ').unwrap().1.to_owned());
        let manager = Manager {
            process,
            browser: browser(),
            url,
            links: links.collect(),
        };
        manager.signs_in(&manager.browser, 0).await;
        manager
    }

    /// The next manager in the same place, after the first was killed or has ended.
    fn starts_again(&self, before: Manager) -> Manager {
        let Manager {
            browser,
            url,
            process,
            ..
        } = before;
        drop(process);
        let place = url.strip_prefix("http://").unwrap();
        let mut command = self.command();
        let (process, url, _) = Running::start(command.args(["--listen", place]));
        let links = Vec::new();
        Manager {
            process,
            browser,
            url,
            links,
        }
    }
}

fn browser() -> Client {
    let client = Client::builder()
        .cookie_store(true)
        // Of the killed manager.
        .pool_max_idle_per_host(0)
        .redirect(Policy::none());
    client.build().unwrap()
}

impl Manager {
    async fn signs_in(&self, browser: &Client, user: usize) {
        let answer = browser.get(&self.links[user]).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    }

    async fn asks(&self, method: Method, path: &str, body: &Value) -> Response {
        let mut page = self.browser.get(&self.url);
        for (name, value) in WINDOW {
            page = page.header(name, value);
        }
        let page = page.send().await.unwrap().text().await.unwrap();
        let key = key_of(&page).unwrap_or_default();
        let request = self.browser.request(method, format!("{}{path}", self.url));
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let request = request.header("x-hpc-manager", "1").header(PAGE, key);
        document::sends(request.body(body)).await
    }

    async fn launches(&self, wish: Value) -> Value {
        let answer = self.asks(Method::POST, "/api/v1/sessions", &wish).await;
        assert_eq!(answer.status(), StatusCode::ACCEPTED, "{wish}");
        answer.json().await.unwrap()
    }

    async fn sessions(&self) -> Vec<Value> {
        let answer = self
            .asks(Method::GET, "/api/v1/sessions", &Value::Null)
            .await;
        assert_eq!(answer.status(), StatusCode::OK, "the browser is signed in");
        let mut told: Value = answer.json().await.unwrap();
        serde_json::from_value(told["sessions"].take()).unwrap()
    }

    async fn awaits(&self, phase: &str) -> Value {
        let start = Instant::now();
        loop {
            let sessions = self.sessions().await;
            if let Some(found) = sessions.iter().find(|session| session["phase"] == phase) {
                return found.clone();
            }
            assert!(start.elapsed() < DEADLINE, "not {phase}: {sessions:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn awaits(what: &str, is_so: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < DEADLINE, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[tokio::test]
async fn a_killed_managers_sessions_and_browsers_are_there_again() {
    let site = Site::new();
    let manager = site.starts().await;
    manager.launches(json!({"time": "1:00:00"})).await;
    let before = manager.awaits("pending").await;
    let again = site.starts_again(manager);
    let start = Instant::now();
    let after = again.awaits("pending").await;
    assert!(
        start.elapsed() < Duration::from_secs(5),
        "{:?}",
        start.elapsed()
    );
    for field in ["id", "job", "wish", "created"] {
        assert_eq!(after[field], before[field], "{field}");
    }
    assert_eq!(
        (site.lines("asked").len(), site.lines("jobs").len()),
        (1, 1)
    );

    // It is the same session in every way: it can be cancelled.
    let path = format!("/api/v1/sessions/{}", after["id"].as_str().unwrap());
    let answer = again.asks(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    let ended = again.awaits("ended").await;
    assert_eq!(ended["reason"], "it was cancelled");
    assert_eq!(site.lines("cancelled"), ["1"]);
    let later = site.starts_again(again).sessions().await;
    assert_eq!(later[0]["reason"], "it was cancelled");
}

#[tokio::test]
async fn a_job_that_the_killed_manager_never_heard_of_is_found_and_not_doubled() {
    let site = Site::new();
    site.sets("after", "10");
    let manager = site.starts().await;
    let launched = manager.launches(json!({})).await;
    awaits("sbatch has the job", || site.lines("jobs").len() == 1);
    let again = site.starts_again(manager);
    let found = again.awaits("pending").await;
    assert_eq!(
        (&found["id"], &found["job"]),
        (&launched["id"], &json!("1"))
    );
    assert_eq!(
        (site.lines("asked").len(), site.lines("jobs").len()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_wish_to_end_what_is_being_submitted_outlives_the_manager() {
    let site = Site::new();
    site.sets("after", "10");
    let manager = site.starts().await;
    let launched = manager.launches(json!({})).await;
    awaits("sbatch has the job", || site.lines("jobs").len() == 1);
    let path = format!("/api/v1/sessions/{}", launched["id"].as_str().unwrap());
    let answer = manager.asks(Method::DELETE, &path, &Value::Null).await;
    assert_eq!(answer.status(), StatusCode::ACCEPTED);
    // On its way to the disk.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(site.lines("cancelled").is_empty());
    let again = site.starts_again(manager);
    again.awaits("ended").await;
    assert_eq!(site.lines("cancelled"), ["1"]);
}

// The command goes on at the login node when the manager is gone.
#[tokio::test]
async fn a_job_that_comes_after_the_restart_is_found_too() {
    let site = Site::new();
    site.sets("before", "4");
    let manager = site.starts().await;
    let launched = manager.launches(json!({})).await;
    awaits("sbatch is asked", || site.lines("asked").len() == 1);
    let again = site.starts_again(manager);
    let waits = again.sessions().await;
    assert_eq!(waits[0]["phase"], "submitted", "{waits:?}");
    let found = again.awaits("pending").await;
    assert_eq!(
        (&found["id"], &found["job"]),
        (&launched["id"], &json!("1"))
    );
    assert_eq!(
        (site.lines("asked").len(), site.lines("jobs").len()),
        (1, 1)
    );
}

#[tokio::test]
async fn a_job_of_nobodys_session_is_left_alone_and_a_missing_one_is_over() {
    let site = Site::new();
    let manager = site.starts().await;
    manager.launches(json!({})).await;
    let before = manager.awaits("pending").await;
    // Another cluster in the place of the first: the number is another job's.
    site.sets(
        "jobs",
        "1 hpc-vscode-zzzzzzzz PENDING\n2 hpc-vscode PENDING\n",
    );
    let again = site.starts_again(manager);
    let ended = again.awaits("ended").await;
    assert_eq!(ended["id"], before["id"]);
    let reason = ended["reason"].as_str().unwrap();
    assert!(reason.starts_with("its job ended while"), "{reason}");
    assert!(site.lines("cancelled").is_empty());
    assert_eq!(
        (site.lines("asked").len(), site.lines("jobs").len()),
        (1, 2)
    );
}

#[tokio::test]
async fn a_controller_that_is_down_at_the_start_says_nothing_about_a_job() {
    let site = Site::new();
    let manager = site.starts().await;
    manager.launches(json!({})).await;
    let before = manager.awaits("pending").await;
    site.sets("down", "");
    let again = site.starts_again(manager);
    let start = Instant::now();
    loop {
        let now = again.sessions().await.remove(0);
        assert_eq!(now["phase"], "submitted");
        let reason = now["reason"].as_str().unwrap_or_default();
        if reason.contains("Unable to contact slurm controller") {
            break;
        }
        assert!(start.elapsed() < DEADLINE, "{now}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fs::remove_file(site.path("down")).unwrap();
    assert_eq!(again.awaits("pending").await["job"], before["job"]);
}

#[tokio::test]
async fn jobs_are_left_at_an_orderly_end_and_taken_up_again() {
    let site = Site::new();
    let mut manager = site.starts().await;
    manager.launches(json!({})).await;
    let before = manager.awaits("pending").await;
    kill_process(Pid::from_child(&manager.process), Signal::TERM).unwrap();
    assert!(manager.process.wait().unwrap().success());
    let again = site.starts_again(manager);
    assert_eq!(again.awaits("pending").await["job"], before["job"]);
    assert!(site.lines("cancelled").is_empty());
}

#[tokio::test]
async fn several_sessions_are_bounded_and_nobody_elses_business() {
    let mut site = Site::new();
    site.flags = vec![
        "--max-sessions",
        "2",
        "--max-time",
        "8:00:00",
        "--partitions",
        "cpu,gpu",
    ];
    let manager = site.starts().await;
    let mut ids = Vec::new();
    for partition in ["cpu", "gpu"] {
        let launched = manager.launches(json!({ "partition": partition })).await;
        ids.push(launched["id"].as_str().unwrap().to_owned());
    }
    let third = manager
        .asks(Method::POST, "/api/v1/sessions", &Value::Null)
        .await;
    assert_eq!(third.status(), StatusCode::CONFLICT);
    // As before there were several: one that lives is enough.
    let old = manager
        .asks(Method::POST, "/api/v1/session", &Value::Null)
        .await;
    assert_eq!(old.status(), StatusCode::ACCEPTED);
    for (wish, told) in [
        (json!({"time": "9:00:00"}), "`8:00:00`"),
        (json!({"partition": "huge"}), "`cpu`, `gpu`"),
        (json!({"mem": "8G; id"}), "an amount of memory"),
        (json!({"options": {"wrap": "id"}}), "none"),
    ] {
        let refused = manager.asks(Method::POST, "/api/v1/sessions", &wish).await;
        assert_eq!(refused.status(), StatusCode::BAD_REQUEST, "{wish}");
        let text = refused.text().await.unwrap();
        assert!(text.contains(told), "{wish}: {text}");
    }
    awaits("both are submitted", || site.lines("jobs").len() == 2);
    let asked = site.lines("asked").join("\n");
    assert!(asked.contains("--partition=gpu") && asked.contains("--job-name=hpc-vscode-"));

    // The newest serves, unless the browser chose; what has no such name chooses nothing.
    let selected = async |manager: &Manager| {
        let answer = manager
            .asks(Method::GET, "/api/v1/session", &Value::Null)
            .await;
        let state: Value = answer.json().await.unwrap();
        state["id"].as_str().unwrap().to_owned()
    };
    assert_eq!(selected(&manager).await, ids[1]);
    let chosen = format!("/s/{}/port/5500/?a=%2F", ids[0]);
    let chosen = manager.asks(Method::GET, &chosen, &Value::Null).await;
    assert_eq!(chosen.headers()["location"], "/port/5500/?a=%2F");
    assert_eq!(selected(&manager).await, ids[0]);
    let elsewhere = format!("/s/{}//evil.example/", ids[1]);
    let elsewhere = manager.asks(Method::GET, &elsewhere, &Value::Null).await;
    assert_eq!(elsewhere.headers()["location"], "/");

    // S32.
    let bob = Manager {
        browser: browser(),
        url: manager.url.clone(),
        links: manager.links.clone(),
        process: manager.process,
    };
    bob.signs_in(&bob.browser, 1).await;
    assert!(bob.sessions().await.is_empty());
    for (method, below) in [
        (Method::GET, "api/v1/sessions/ID"),
        (Method::DELETE, "api/v1/sessions/ID"),
        (Method::GET, "api/v1/sessions/ID/log"),
        (Method::GET, "s/ID/"),
    ] {
        let path = format!("/{}", below.replace("ID", &ids[0]));
        let answer = bob.asks(method, &path, &Value::Null).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
    }
    assert!(site.lines("cancelled").is_empty());
}

// What a controller sees of a lab does not grow with its users.
#[tokio::test]
async fn one_account_asks_squeue_for_all_users_of_a_cluster() {
    let mut site = Site::new();
    let file = "[[cluster]]\nname = 'big'\nlogin = 'login'\nsqueue-as = 'watcher'\n\
                [[user]]\nname = 'alice'\n[[user]]\nname = 'bob'\n";
    site.sets("manager.toml", file);
    let file = site.path("manager.toml").to_str().unwrap().to_owned();
    site.logins = vec!["--config", file.leak()];
    let manager = site.starts().await;
    let bob = browser();
    manager.signs_in(&bob, 1).await;
    manager.launches(json!({})).await;
    manager.awaits("pending").await;
    let bob = Manager {
        browser: bob,
        url: manager.url.clone(),
        links: Vec::new(),
        process: manager.process,
    };
    bob.launches(json!({})).await;
    bob.awaits("pending").await;
    awaits("one question is about both", || {
        let asked = site.lines("squeued");
        asked.iter().any(|asked| asked.contains(" -j 1,2 "))
    });
    let start = Instant::now();
    let before = site.lines("squeued").len();
    tokio::time::sleep(Duration::from_secs(5)).await;
    let asked = site.lines("squeued");
    assert!(
        asked
            .iter()
            .all(|asked| asked.starts_with("watcher@login -h ")),
        "{asked:?}"
    );
    let most = start.elapsed().as_secs() / 2 + 1;
    assert!(asked.len() as u64 - before as u64 <= most, "{asked:?}");
}

#[tokio::test]
async fn the_end_of_what_a_job_printed_is_shown() {
    let site = Site::new();
    let manager = site.starts().await;
    manager.launches(json!({})).await;
    let session = manager.awaits("pending").await;
    let path = format!("/api/v1/sessions/{}/log", session["id"].as_str().unwrap());
    let text = format!("{}<script>last line</script>\n", "x".repeat(100_000));
    fs::create_dir_all(site.path(".hpc-proxy")).unwrap();
    site.sets(".hpc-proxy/job-1.log", &text);
    let log = manager.asks(Method::GET, &path, &Value::Null).await;
    assert_eq!(log.headers()["content-type"], "text/plain; charset=utf-8");
    let log = log.text().await.unwrap();
    assert!(log.ends_with("last line</script>\n") && log.len() == 32 * 1024);
}
