//! A real Chromium without a screen, driven as WebDriver has it. It trusts the cluster's authority and shows no
//! certificate of its own.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::curl::Curl;
use crate::{Cluster, helpers};

/// What the driver says, before its port.
const STARTED: &str = "started successfully on port ";
/// Programs of which none may be missing, and their packages.
const NEEDED: [(&str, &str); 3] = [
    ("chromium", "--version"),
    ("chromedriver", "--version"),
    // It knows no such option, and says how it is called.
    ("certutil", "-H"),
];

/// An open window; closed when dropped.
#[derive(Debug)]
pub struct Browser {
    driver: Child,
    curl: Curl,
    session: String,
    _home: tempfile::TempDir,
}

impl Browser {
    /// Opens a window as a user would who trusts this cluster. `None`, with a message, where there is no
    /// Chromium.
    ///
    /// # Errors
    /// When it is there and does not start.
    pub fn start(cluster: &Cluster) -> anyhow::Result<Option<Self>> {
        let runs = |(program, asked): &(&str, &str)| {
            let mut command = Command::new(program);
            command.arg(asked).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            command.status().is_ok()
        };
        let Some(curl) = Curl::stranger(cluster)? else { return Ok(None) };
        if !NEEDED.iter().all(runs) {
            helpers::say(
                "no Chromium and its driver here: run tools/setup page, or make page-test",
            );
            return Ok(None);
        }
        let home = tempfile::tempdir()?;
        trust(home.path(), &cluster.dir().join("pki/ca.crt"))?;
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").env("HOME", home.path()).env("TMPDIR", home.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut driver = command.spawn().context("cannot start chromedriver")?;
        let lines = driver.stdout.take().map(|pipe| BufReader::new(pipe).lines());
        let mut lines = lines.into_iter().flatten().map_while(Result::ok);
        let port = lines.find_map(|line| {
            line.split_once(STARTED).map(|(_, port)| port.trim_end_matches('.').to_owned())
        });
        let base = format!("http://127.0.0.1:{}/session", port.unwrap_or_default());
        let mut browser = Self { driver, curl, session: base, _home: home };
        let options =
            ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"];
        let wanted = json!({"browserName": "chrome", "goog:loggingPrefs": {"browser": "ALL"},
                            "goog:chromeOptions": {"args": options}});
        let begun = browser.call("", &json!({"capabilities": {"alwaysMatch": wanted}}))?;
        let id = begun.get("sessionId").and_then(Value::as_str).context("no session")?;
        browser.session = format!("{}/{id}", browser.session);
        Ok(Some(browser))
    }

    /// Opens a page.
    ///
    /// # Errors
    /// When it cannot be had.
    pub fn open(&self, url: &str) -> anyhow::Result<()> {
        self.call("/url", &json!({"url": url})).map(drop)
    }

    /// Runs a script in the page, and returns what it returns.
    ///
    /// # Errors
    /// When it fails.
    pub fn run(&self, script: &str) -> anyhow::Result<Value> {
        self.call("/execute/sync", &json!({"script": script, "args": []}))
    }

    /// What the page says in an element.
    ///
    /// # Errors
    /// When there is none.
    pub fn text(&self, id: &str) -> anyhow::Result<String> {
        let text = self.run(&format!("return document.getElementById('{id}').textContent"))?;
        Ok(text.as_str().context("no text")?.to_owned())
    }

    /// What came to the console since it was asked last: where from, and what.
    ///
    /// # Errors
    /// When the browser does not tell.
    pub fn console(&self) -> anyhow::Result<Vec<(String, String)>> {
        let told = self.call("/se/log", &json!({"type": "browser"}))?;
        let text = |line: &Value, key: &str| {
            line.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let lines = told.as_array().context("no list")?.iter();
        Ok(lines.map(|line| (text(line, "source"), text(line, "message"))).collect())
    }

    /// Shows the page so wide and in light or dark.
    ///
    /// # Errors
    /// When the browser does not.
    pub fn look(&self, width: u32, height: u32, scheme: &str) -> anyhow::Result<()> {
        let feature = json!({"name": "prefers-color-scheme", "value": scheme});
        self.devtools("Emulation.setEmulatedMedia", &json!({"features": [feature]}))?;
        let size =
            json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": false});
        self.devtools("Emulation.setDeviceMetricsOverride", &size).map(drop)
    }

    /// Writes a picture of the window.
    ///
    /// # Errors
    /// When that fails.
    pub fn picture(&self, file: &Path) -> anyhow::Result<()> {
        let taken = self.devtools("Page.captureScreenshot", &json!({"format": "png"}))?;
        let data = taken.get("data").and_then(Value::as_str).context("no picture")?;
        let bytes = STANDARD.decode(data)?;
        fs::write(file, bytes).with_context(|| file.display().to_string())
    }

    fn devtools(&self, method: &str, params: &Value) -> anyhow::Result<Value> {
        self.call("/goog/cdp/execute", &json!({"cmd": method, "params": params}))
    }

    fn call(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let url = format!("{}{path}", self.session);
        let kind = "Content-Type: application/json";
        let args = ["-X", "POST", "-H", kind, "--data-binary", "@-", &url];
        let answer = self.curl.ask_with(&args, body.to_string().as_bytes())?;
        let mut told = answer.json()?;
        anyhow::ensure!(answer.status == 200, "{path} {body}: {told}");
        told.get_mut("value").map(Value::take).context("no value")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The window first: a driver that is killed leaves it open. What has ended by itself is gone.
        let _ = self.curl.ask(&["-X", "DELETE", &self.session]);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Has the browser of this home trust an authority.
fn trust(home: &Path, ca: &Path) -> anyhow::Result<()> {
    let folder = home.join(".pki/nssdb");
    fs::create_dir_all(&folder)?;
    let store: PathBuf = ["sql:", &folder.to_string_lossy()].concat().into();
    for args in [&["-N", "--empty-password"][..], &["-A", "-t", "C,,", "-n", "logd", "-i"]] {
        let mut command = Command::new("certutil");
        command.args(args).stdin(Stdio::null()).stdout(Stdio::null());
        if args.contains(&"-i") {
            command.arg(ca);
        }
        let ended = command.arg("-d").arg(&store).status().context("certutil")?;
        anyhow::ensure!(ended.success(), "certutil {args:?}: {ended}");
    }
    Ok(())
}
