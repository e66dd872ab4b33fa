//! What several nodes tell, as one text: for who has no scraper and runs `logctl` instead.

use std::collections::{BTreeSet, HashMap};

/// Whether a node answered `logctl`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reached {
    /// Its name.
    pub node: String,
    /// What it told; `None` if it did not answer.
    pub text: Option<String>,
}

/// One family of a text.
#[derive(Default)]
struct Block {
    /// Its help and its type.
    head: Vec<String>,
    lines: Vec<String>,
    /// What stands before the value, of each line.
    series: BTreeSet<String>,
}

/// One text of all. Families keep the order in which they first come; of what several tell of the cluster,
/// the first one's word counts.
#[must_use]
pub fn joined(nodes: &[Reached]) -> String {
    let (mut blocks, mut places): (Vec<Block>, HashMap<String, usize>) = Default::default();
    let texts = nodes.iter().filter_map(|node| node.text.as_deref());
    let mut current = None;
    for line in texts.flat_map(str::lines) {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let name = rest.split(' ').next().unwrap_or(rest);
            let place = *places.entry(name.to_owned()).or_insert_with(|| {
                blocks.push(Block::default());
                blocks.len() - 1
            });
            current = Some(place);
        }
        let block = current.and_then(|place| blocks.get_mut(place));
        let Some(block) = block else { continue };
        if line.starts_with('#') {
            if block.head.len() < 2 {
                block.head.push(line.to_owned());
            }
        } else {
            let series = line.rsplit_once(' ').map_or(line, |(series, _)| series);
            if block.series.insert(series.to_owned()) {
                block.lines.push(line.to_owned());
            }
        }
    }
    let up = |node: &Reached| {
        format!("logd_up{{node=\"{}\"}} {}", node.node, u8::from(node.text.is_some()))
    };
    let mut out = vec![
        "# HELP logd_up Whether the node answers logctl.".to_owned(),
        "# TYPE logd_up gauge".to_owned(),
    ];
    out.extend(nodes.iter().map(up));
    for Block { head, lines, .. } in blocks {
        out.extend(head);
        out.extend(lines);
    }
    out.push(String::new());
    out.join("\n")
}
