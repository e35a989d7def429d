//! The script of rewritten pages by itself, in real Chromium: what its rule answers, and what it costs.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use e2e::chromium::Chromium;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// What it may take out of the beginning of a page, in milliseconds.
const LONGEST_RUN_MS: f64 = 5.0;

fn file(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    std::fs::read_to_string(&path).with_context(|| path.display().to_string())
}

/// The function of the shim that is also written in `prefix.rs`.
fn rule(shim: &str) -> Result<&str> {
    let begin = shim
        .find("function rule(")
        .context("the rule's beginning")?;
    let end = shim.find("// ---- End of the rule.").context("its end")?;
    Ok(&shim[begin..end])
}

/// Runs the body of a function of `given` in an empty page with an ordinary origin.
async fn in_a_page(script: &str, given: &Value) -> Result<Value> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = format!("http://{}/", listener.local_addr()?);
    let server = tokio::spawn(async move {
        while let Ok((mut browser, _)) = listener.accept().await {
            let mut asked = [0; 4096];
            let _ = browser.read(&mut asked).await;
            let page = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<!doctype html><body>";
            let _ = browser.write_all(page.as_bytes()).await;
        }
    });
    let dir = tempfile::tempdir()?;
    let chromium = Chromium::start(dir.path()).await?;
    chromium.goes_to(&address).await?;
    let answer = chromium
        .runs(&format!("const given = {given};\n{script}"))
        .await?;
    chromium.closes().await?;
    server.abort();
    Ok(answer)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_rule_holds_its_corpus_in_a_browser() -> Result<()> {
    let shim = file("proxy/src/shim/shim.js")?;
    let corpus: Value = serde_json::from_str(&file("proxy/tests/prefix_corpus.json")?)?;
    let asked = r#"
        const rule = new Function(`"use strict"; return ${given.rule}`)();
        const [asked, wrong] = [[], []];
        for (const group of given.corpus) {
          const twin = rule(group.view);
          for (const how of ["url", "srcset", "unprefix"]) {
            for (const [text, wanted] of group[how]) {
              const said = twin[how](text);
              asked.push(text);
              if (said !== wanted) wrong.push([group.name, how, text, said, wanted]);
            }
          }
        }
        return [asked.length, wrong];"#;
    let answer = in_a_page(asked, &json!({ "rule": rule(&shim)?, "corpus": corpus })).await?;
    let asked = answer[0].as_u64().context("a number")?;
    ensure!(asked > 200, "only {asked} rows were asked");
    ensure!(answer[1] == json!([]), "of {asked}: {:#}", answer[1]);
    Ok(())
}

// From its text, without the browser's cache of compiled code: each realm is new, and each text another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_hardly_waits_for_the_shim() -> Result<()> {
    let shim = file("proxy/src/shim/shim.js")?;
    let measured = r#"
        const took = [];
        for (let turn = 0; turn < 41; turn++) {
          const frame = document.body.appendChild(document.createElement("iframe"));
          const { contentDocument: inner, contentWindow: win } = frame;
          const tag = {
            src: `${location.origin}/shim.js`, nonce: "",
            dataset: { prefix: "/port/5500", siblings: "/port/{}", port: "5500" },
          };
          Object.defineProperty(inner, "currentScript", { value: tag });
          const script = inner.createElement("script");
          script.textContent = `${given.shim}\n// ${turn}`;
          const begun = performance.now();
          inner.head.append(script);
          took.push(performance.now() - begun);
          if (!win[Symbol.for("hpc-proxy")]) return "the shim did not begin";
          frame.remove();
        }
        return took;"#;
    let answer = in_a_page(measured, &json!({ "shim": shim })).await?;
    let mut took: Vec<f64> =
        serde_json::from_value(answer.clone()).with_context(|| answer.to_string())?;
    let first = took.remove(0);
    took.sort_by(f64::total_cmp);
    let (least, median) = (took[0], took[took.len() / 2]);
    let said =
        format!("at least {least:.1} ms, half below {median:.1} ms, the first {first:.1} ms");
    // Other tests run beside this one, and can only make it longer.
    ensure!(least < LONGEST_RUN_MS, "{said}");
    eprintln!("evaluating the shim: {said}");
    Ok(())
}
