//! The pages logd(8), logd-recover(8) and logd.toml(5), from the command line and from the keys that the
//! configuration's reader asks for.

use std::io::{self, Write};
use std::path::Path;

use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};
use config::manual::{EXAMPLE, Entry, entries};

use crate::cli::{CommandLine, HELP};
use crate::exit::{Exit, Failed};

/// What is told of a page of sections that are prose.
type Sections<'a> = &'a [(&'a str, &'a str)];

const FILES: &str = "\
/etc/logd/node.toml
    the configuration of the node that the service runs
/etc/logd/pki
    its certificate and key; on a host that signs, the authority's key
/var/lib/logd
    its store
/usr/share/doc/logd/examples/node.toml
    a configuration with every key explained";

const EXAMPLES: &str = "\
logctl cluster create --system --host 10.0.0.1 --start
    a cluster whose first node is this machine's service
logctl cluster join TOKEN --system --start
    another machine's node
logd --config node1.toml --check-config
    says what is wrong with a configuration
logd --config node1.toml --check-store
    reads all of a stopped node's store";

const FORM: &str = "\
TOML, read strictly: an unknown key, a value of the wrong type or out of range and a file that is not there are \
told all at once, with line, column and what to write instead. Relative paths are relative to the folder of the \
file. logd --config FILE --check-config looks at a file and starts nothing.";

const AGAIN: &str = "\
SIGHUP has logd read the files of [tls] and [http] and the log filter again; the rest is read at the start. \
max_error_ms, on_loss, cert_life and all of [retention] are settings of the whole cluster: the first primary takes \
them from its file, and from then on logctl cluster set changes them.";

const ENVIRONMENT: &str = "\
LOGD_LOG
    a log filter, which wins over log.filter";

/// Writes the pages into a folder.
///
/// # Errors
/// When one cannot be written.
pub fn run(dir: &Path) -> Result<(), Failed> {
    pages(dir).map_err(|error| {
        let error = anyhow::Error::new(error).context(format!("cannot write to {}", dir.display()));
        Failed::new(Exit::Other, error, "give a folder that you may write")
    })
}

fn pages(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    for (file, text) in [
        ("logd.8", daemon_page()?),
        ("logd-recover.8", recover_page()?),
        ("logd.toml.5", configuration_page()?),
    ] {
        std::fs::write(dir.join(file), text)?;
    }
    Ok(())
}

fn daemon_page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let about = "the daemon of a replicated log of messages";
    let command = CommandLine::command().about(about).disable_help_subcommand(true);
    options(command, &mut page)?;
    for block in HELP.split("\n\n") {
        let (heading, text) = block.split_once('\n').unwrap_or((block, ""));
        let title = match heading {
            "Exit codes:" => "EXIT STATUS",
            "Signals:" => "SIGNALS",
            "Environment:" => "ENVIRONMENT",
            // The file to join with: its heading is a sentence.
            sentence => {
                section(&mut page, "JOINING")?;
                paragraph(&mut page, sentence)?;
                verbatim(&mut page, text)?;
                continue;
            }
        };
        section(&mut page, title)?;
        verbatim(&mut page, text)?;
    }
    end(&mut page, &[("FILES", FILES), ("EXAMPLES", EXAMPLES)], "logctl(1), logd.toml(5)")?;
    Ok(page)
}

fn recover_page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let whole = CommandLine::command();
    let recover = whole.find_subcommand("recover").cloned().unwrap_or_default();
    options(recover.display_name("logd-recover").bin_name("logd recover"), &mut page)?;
    end(&mut page, &[], "logd(8), logctl(1)")?;
    Ok(page)
}

fn options(command: Command, page: &mut Vec<u8>) -> io::Result<()> {
    let source = format!("logd {}", env!("CARGO_PKG_VERSION"));
    let man = Man::new(command).section("8").source(source);
    man.render_title(page)?;
    man.render_name_section(page)?;
    man.render_synopsis_section(page)?;
    man.render_description_section(page)?;
    man.render_options_section(page)
}

fn configuration_page() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    let source = concat!("logd ", env!("CARGO_PKG_VERSION"));
    Roff::new().control("TH", ["logd.toml", "5", "", source]).to_writer(&mut page)?;
    section(&mut page, "NAME")?;
    paragraph(&mut page, "logd.toml - configuration of a node of logd")?;
    section(&mut page, "SYNOPSIS")?;
    paragraph(&mut page, "/etc/logd/node.toml")?;
    section(&mut page, "DESCRIPTION")?;
    paragraph(&mut page, FORM)?;
    paragraph(&mut page, AGAIN)?;
    let mut last = None;
    for entry in entries() {
        if last.as_ref() != Some(&entry.section) {
            section(&mut page, &heading(&entry.section))?;
        }
        tell(&mut page, &entry)?;
        last = Some(entry.section);
    }
    let rest: Sections<'_> =
        &[("ENVIRONMENT", ENVIRONMENT), ("FILES", FILES), ("EXAMPLE", EXAMPLE)];
    end(&mut page, rest, "logd(8), logctl(1)")?;
    Ok(page)
}

/// A table by the line that begins it.
fn heading(section: &str) -> String {
    match section {
        "" => "TOP OF THE FILE".to_owned(),
        // The only one that there may be several of.
        "clock.server" => "[[clock.server]]".to_owned(),
        section => format!("[{section}]"),
    }
}

fn tell(page: &mut Vec<u8>, entry: &Entry) -> io::Result<()> {
    let mut roff = Roff::new();
    if entry.keys.is_empty() {
        roff.control("PP", []);
    }
    for (at, key) in entry.keys.iter().enumerate() {
        roff.control(if at == 0 { "TP" } else { "TQ" }, []);
        roff.text([bold(key.name.as_str()), roman(format!("  {}", key.kind))]);
    }
    roff.text([roman(entry.text.as_str())]);
    roff.to_writer(page)
}

fn section(page: &mut Vec<u8>, title: &str) -> io::Result<()> {
    Roff::new().control("SH", [title]).to_writer(page)
}

fn paragraph(page: &mut Vec<u8>, text: &str) -> io::Result<()> {
    Roff::new().control("PP", []).text([roman(text)]).to_writer(page)
}

/// A text as it stands.
fn verbatim(page: &mut Vec<u8>, text: &str) -> io::Result<()> {
    let mut roff = Roff::new();
    roff.control("PP", []).control("nf", []);
    text.trim_end().lines().for_each(|line| _ = roff.text([roman(line)]));
    roff.control("fi", []).to_writer(page)
}

fn end(page: &mut Vec<u8>, sections: Sections<'_>, others: &str) -> io::Result<()> {
    for (title, text) in sections {
        section(page, title)?;
        verbatim(page, text)?;
    }
    section(page, "SEE ALSO")?;
    paragraph(page, others)?;
    page.flush()
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    /// The page as a reader has it: without what sets it.
    fn read(page: &[u8]) -> String {
        let text = String::from_utf8(page.to_vec()).unwrap();
        ["\\fB", "\\fR", "\\&"]
            .iter()
            .fold(text, |text, set| text.replace(set, ""))
            .replace("\\-", "-")
    }

    /// Meant to catch: a section whose keys are left out.
    #[test]
    fn the_page_of_the_configuration_has_every_key_with_its_range() {
        let page = read(&configuration_page().unwrap());
        for entry in entries() {
            for key in &entry.keys {
                let line = format!("{}  {}", key.name, key.kind);
                assert!(page.lines().any(|has| has == line), "{line}: {page}");
            }
        }
        let daemon = read(&daemon_page().unwrap());
        for part in [
            "logd - the daemon",
            "--check-store",
            "EXIT STATUS",
            "SIGNALS",
            "LOGD_LOG",
            "EXAMPLES",
            "data_dir",
        ] {
            assert!(daemon.contains(part), "{part}: {daemon}");
        }
        assert!(!daemon.contains("logd-man"), "{daemon}");
        assert!(read(&recover_page().unwrap()).contains("--i-have-lost-the-majority"));
    }

    /// Meant to catch: a line of a text that begins with a point, which is a command to who sets it.
    #[test]
    fn who_sets_the_pages_finds_nothing_to_say() {
        for page in [daemon_page(), recover_page(), configuration_page()] {
            let mut groff = Command::new("groff");
            groff.args(["-man", "-Tutf8", "-ww", "-z"]);
            groff.stdin(Stdio::piped()).stderr(Stdio::piped()).stdout(Stdio::null());
            let Ok(mut groff) = groff.spawn() else {
                println!("groff is not installed: the pages are not set");
                return;
            };
            groff.stdin.take().unwrap().write_all(&page.unwrap()).unwrap();
            let said = groff.wait_with_output().unwrap();
            assert!(said.status.success() && said.stderr.is_empty(), "{said:?}");
        }
    }
}
