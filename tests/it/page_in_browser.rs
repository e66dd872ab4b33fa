//! The page for people, as a real Chromium shows it.

use std::path::Path;

use tests::Cluster;
use tests::browser::Browser;
use tests::patience::{until, when};
use tests::timed::Timed;

use crate::page::token;

/// Claimed by the time servers: wider than two messages of one command lie apart, and narrower than two commands.
const DISPERSION_NS: u64 = 20_000_000;
/// Where pictures are wanted, as by `make screenshots`.
const PICTURES: &str = "LOGD_SCREENSHOTS";

/// Opens the page of a node as bob.
fn sign_in(browser: &Browser, cluster: &Cluster, node: &str) {
    let url = format!("https://{}/", cluster.address(node).unwrap());
    browser.look(1280, 1460, "light").unwrap();
    browser.open(&url).unwrap();
    says(browser, "verdict", &["not signed in"]);
    let [token, _] = token(cluster, "bob");
    let form = format!(
        "document.getElementById('token').value = '{token}'; \
         document.getElementById('token-form').requestSubmit()"
    );
    browser.run(&form).unwrap();
    says(browser, "who", &[node, "seen by bob"]);
}

/// Sends two messages at once.
fn send_two(cluster: &Cluster, id: &str, body: &str) {
    let args = ["--as", "alice", "send", "--to", "bob", "--lines", "--id", id];
    let lines = format!("{body}\n{body} again\n");
    until("two messages that are sent", || {
        let run = cluster.user().run_with(&args, lines.as_bytes());
        let run = run.map_err(|error| error.to_string())?;
        when(run.code == 0, run.to_string())
    })
    .unwrap();
}

/// Waits until an element of the page says all of that.
fn says(browser: &Browser, id: &str, all: &[&str]) {
    let what = format!("{all:?} in {id}");
    until(&what, || {
        let text = browser.text(id).map_err(|error| error.to_string())?;
        when(all.iter().all(|part| text.contains(part)), text)
    })
    .unwrap();
}

/// Nothing came to the console. A node may have said meanwhile that it had no primary: elections happen.
fn quiet(browser: &Browser) {
    let mut told = browser.console().unwrap();
    let is_busy = |(from, text): &(String, String)| {
        let status = |code| text.contains(&format!("a status of {code}"));
        from == "network" && [429, 503, 504].into_iter().any(status)
    };
    told.retain(|line| !is_busy(line));
    assert_eq!(told, []);
}

/// Shows the time of a button.
fn show(browser: &Browser, last: &str) {
    browser.run(&format!("document.querySelector('#spans [value=\"{last}\"]').click()")).unwrap();
    says(browser, "messages-table", &["pair 8"]);
}

fn pictures(browser: &Browser, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    show(browser, "1m");
    for (name, scheme, width, height) in [
        ("light", "light", 1280, 1460),
        ("dark", "dark", 1280, 1460),
        ("narrow", "light", 400, 1460),
    ] {
        browser.look(width, height, scheme).unwrap();
        // Charts are drawn for another width and other colours within some frames.
        let drawn = "const after = (frames) => new Promise((done) => requestAnimationFrame(() => \
                     done(frames > 1 ? after(frames - 1) : 1))); return after(10)";
        browser.run(drawn).unwrap();
        browser.picture(&folder.join(format!("page-{name}.png"))).unwrap();
    }
    show(browser, "10m");
}

/// Meant to catch: a chart without its numbers, an order that is shown as proven and is not, whatever the
/// policy forbids, and a page that stands still once its node has died.
#[test]
fn a_browser_shows_the_cluster_and_goes_on_when_its_node_is_back() {
    let mut timed = Timed::create(3, "").unwrap();
    for node in timed.cluster.names() {
        timed.change(&node, |manner| manner.root_dispersion_ns = DISPERSION_NS);
    }
    assert!(timed.cluster.start_and_settle().unwrap(), "a port was taken");
    let Some(browser) = Browser::start(&timed.cluster).unwrap() else { return };
    timed.cluster.register(&["alice", "bob"]).unwrap();
    for node in timed.cluster.names() {
        timed.wait_state(&node, "synced").unwrap();
    }
    let primary = timed.cluster.wait_primary("n1").unwrap();
    sign_in(&browser, &timed.cluster, &primary);
    let mut round = 0;
    until("pairs that are proven, and others", || {
        round += 1;
        send_two(&timed.cluster, &format!("pair-{round}"), &format!("pair {round}"));
        let text = browser.text("order-table").map_err(|error| error.to_string())?;
        when(text.contains("proven") && text.contains('~') && round > 8, text)
    })
    .unwrap();
    says(&browser, "messages-table", &["pair 1 again", "pair 8", "alice", "~"]);
    says(&browser, "proven", &["% proven"]);
    says(&browser, "clock-table", &["n1", "n2", "n3", "synced", "±"]);
    says(&browser, "replication-table", &["n1", "n2", "n3", "primary"]);
    says(&browser, "trust-table", &["n1", "n2", "n3", " days"]);
    says(&browser, "life-table", &["primary", "backup", &primary]);
    says(&browser, "stages-table", &["quorum"]);
    quiet(&browser);
    if let Some(folder) = std::env::var_os(PICTURES) {
        pictures(&browser, Path::new(&folder));
        quiet(&browser);
    }
    // The policy is at work: what it forbids is told.
    browser.run("document.body.setAttribute('style', 'color: red')").unwrap();
    until("a violation", || {
        let told = browser.console().map_err(|error| error.to_string())?;
        let is_told =
            |(from, text): &(String, String)| from == "security" && text.contains("style-src");
        when(told.iter().any(is_told), format!("{told:?}"))
    })
    .unwrap();

    timed.cluster.kill(&primary).unwrap();
    says(&browser, "contact", &["cut off"]);
    let other = timed.cluster.names().into_iter().find(|name| *name != primary).unwrap();
    says(&browser, "lost", &[&primary, "does not answer", &other]);
    send_two(&timed.cluster, "meanwhile", "sent meanwhile");
    timed.cluster.start_node(&primary).unwrap();
    says(&browser, "messages-table", &["pair 8", "sent meanwhile again"]);
    until("contact", || {
        let text = browser.text("contact").map_err(|error| error.to_string())?;
        when(text.is_empty(), text)
    })
    .unwrap();
    send_two(&timed.cluster, "after", "sent after");
    says(&browser, "messages-table", &["sent after again"]);
    // What could not be asked is told of by the browser itself, and nothing else is.
    let told = browser.console().unwrap();
    assert!(told.iter().all(|(from, _)| from == "network"), "{told:?}");
}
