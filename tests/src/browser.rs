//! A browser without a window, spoken to in the DevTools protocol: JSON documents with a zero byte between them, over a pipe.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::host::Host;

/// As long as it may take to answer.
const PATIENCE: Duration = Duration::from_mins(1);

/// Hands the pipe over where the browser expects it, which is descriptor 3 to read from and 4 to write to.
const HAND_OVER: &str = "exec \"$@\" 3<&0 4>&1 0</dev/null 1>/dev/null 2>/dev/null";

/// What a page is shown on.
#[derive(Clone, Copy, Debug)]
pub struct Screen {
    /// In CSS pixels.
    pub width: u32,
    /// In CSS pixels.
    pub height: u32,
    /// Whether its owner prefers a dark ground.
    pub dark: bool,
}

/// A running browser with one page; ended on drop.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    stdin: ChildStdin,
    documents: Receiver<Value>,
    session: String,
    asked: u64,
    events: Vec<Value>,
    _profile: TempDir,
}

impl Browser {
    /// Starts one on a host.
    #[must_use]
    pub fn start(host: &Host) -> Self {
        let profile = TempDir::new().expect("a temporary directory");
        let mut command = host.command("sh");
        command.args(["-c", HAND_OVER, "sh", "chromium-headless-shell"]);
        // Root has no sandbox of its own, and what is shown is ours.
        command.args(["--remote-debugging-pipe", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]);
        command.arg(format!("--user-data-dir={}", profile.path().display())).arg("about:blank");
        let child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        let mut child = child.expect("nsenter runs (util-linux)");
        let stdin = child.stdin.take().expect("stdin is piped");
        let mut stdout = BufReader::new(child.stdout.take().expect("stdout is piped"));
        let (sender, documents) = channel();
        thread::spawn(move || {
            let mut bytes = Vec::new();
            while stdout.read_until(0, &mut bytes).is_ok_and(|count| count > 0) {
                bytes.pop();
                let Ok(document) = serde_json::from_slice(&bytes) else { break };
                if sender.send(document).is_err() {
                    break;
                }
                bytes.clear();
            }
        });
        let session = String::new();
        let mut browser =
            Self { child, stdin, documents, session, asked: 0, events: Vec::new(), _profile: profile };
        let targets = browser.ask("Target.getTargets", &json!({}));
        let targets = targets["targetInfos"].as_array().expect("targets");
        let page = targets.iter().find(|target| target["type"] == "page").expect("a page");
        let attached =
            browser.ask("Target.attachToTarget", &json!({"targetId": page["targetId"], "flatten": true}));
        attached["sessionId"].as_str().expect("a session").clone_into(&mut browser.session);
        for domain in ["Page", "Runtime", "Log", "Network"] {
            browser.ask(&format!("{domain}.enable"), &json!({}));
        }
        browser
    }

    /// Shows pages as on such a screen from now on.
    pub fn show_on(&mut self, screen: Screen) {
        let Screen { width, height, dark } = screen;
        let metrics =
            json!({"width": width, "height": height, "deviceScaleFactor": 2, "mobile": width < 600});
        self.ask("Emulation.setDeviceMetricsOverride", &metrics);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.ask("Emulation.setEmulatedMedia", &features);
    }

    /// Opens a page and waits until it is there; returns its status.
    pub fn open(&mut self, url: &str) -> u64 {
        let before = self.events.len();
        let answer = self.ask("Page.navigate", &json!({"url": url}));
        assert_eq!(answer["errorText"], Value::Null, "{url}");
        loop {
            let new = self.events.get(before..).unwrap_or_default();
            if new.iter().any(|event| event["method"] == "Page.loadEventFired") {
                let document = new.iter().find(|event| {
                    event["method"] == "Network.responseReceived" && event["params"]["type"] == "Document"
                });
                let document = document.unwrap_or_else(|| panic!("{url} was not fetched"));
                return document["params"]["response"]["status"].as_u64().expect("a status");
            }
            let document = self.receive();
            self.events.push(document);
        }
    }

    /// The value of an expression in the page.
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let question = json!({"expression": expression, "returnByValue": true, "awaitPromise": true});
        let answer = self.ask("Runtime.evaluate", &question);
        assert_eq!(answer["exceptionDetails"], Value::Null, "{expression}");
        answer["result"]["value"].clone()
    }

    /// Texts of the page that are hard to read on their ground, with the contrast.
    pub fn pale_texts(&mut self) -> Value {
        self.evaluate(include_str!("browser/contrast.js"))
    }

    /// By how many CSS pixels the page is wider than its screen.
    pub fn overflow(&mut self) -> Value {
        self.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    }

    /// Writes a picture of the whole page as PNG.
    pub fn picture(&mut self, file: &Path) {
        let question = json!({"format": "png", "captureBeyondViewport": true});
        let answer = self.ask("Page.captureScreenshot", &question);
        let data = answer["data"].as_str().expect("a picture");
        fs::write(file, BASE64_STANDARD.decode(data).expect("base64")).expect("the picture is written");
    }

    /// What the console shows so far: errors, warnings and violated policies.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let told = ["Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown"];
        let complaints = self.events.iter().filter(|event| told.iter().any(|told| event["method"] == *told));
        complaints.map(|event| event["params"].to_string()).collect()
    }

    /// The URL of everything that pages asked for so far.
    #[must_use]
    pub fn requests(&self) -> Vec<String> {
        let requests = self.events.iter().filter(|event| event["method"] == "Network.requestWillBeSent");
        let url = |event: &Value| event["params"]["request"]["url"].as_str().map(str::to_owned);
        requests.filter_map(url).collect()
    }

    fn ask(&mut self, method: &str, params: &Value) -> Value {
        self.asked += 1;
        let mut question = json!({"id": self.asked, "method": method, "params": params});
        if !self.session.is_empty() {
            question["sessionId"] = self.session.clone().into();
        }
        write!(self.stdin, "{question}\0").expect("the browser runs (`cargo xtask setup` installs it)");
        loop {
            let document = self.receive();
            if document["id"] == self.asked {
                assert_eq!(document["error"], Value::Null, "{method}");
                return document["result"].clone();
            }
            self.events.push(document);
        }
    }

    fn receive(&self) -> Value {
        let document = self.documents.recv_timeout(PATIENCE);
        document.expect("the browser answers (`cargo xtask setup` installs chromium-headless-shell)")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // A Debian browser is the child of a script, which would not pass a signal on.
        let _ = write!(self.stdin, "{{\"id\":0,\"method\":\"Browser.close\"}}\0");
        let _ = self.child.wait();
    }
}
