//! Clients of the cluster, in the forms that are shown.

use clock::hlc::utc_text;
use proto::wire::ClientRow;
use serde::Serialize;

use crate::show::{Cell, Show, Tone};

/// A registered client.
#[derive(Debug, Serialize)]
pub struct ClientView {
    name: String,
    home: String,
    via: Option<String>,
    connected: bool,
    last_seen: Option<String>,
}

impl From<ClientRow> for ClientView {
    fn from(row: ClientRow) -> Self {
        Self {
            name: row.name,
            home: row.home,
            via: Some(row.via).filter(|via| !via.is_empty()),
            connected: row.connected,
            last_seen: (row.last_seen_ns > 0).then(|| utc_text(row.last_seen_ns)),
        }
    }
}

impl Show for ClientView {
    fn headings() -> &'static [&'static str] {
        &["NAME", "HOME", "VIA", "CONNECTED", "LAST SEEN"]
    }

    fn row(&self) -> Vec<Cell> {
        let (connected, tone) =
            if self.connected { ("yes", Tone::Good) } else { ("no", Tone::Neutral) };
        vec![
            self.name.as_str().into(),
            self.home.as_str().into(),
            self.via.as_deref().unwrap_or("-").into(),
            Cell::toned(connected, tone),
            self.last_seen.as_deref().unwrap_or("-").into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.name.clone(),
            self.home.clone(),
            self.via.clone().unwrap_or_default(),
            self.connected.to_string(),
            self.last_seen.clone().unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::show::Shape;
    use crate::show::tests::shown;

    #[test]
    fn a_client_has_exactly_these_fields() {
        let row = ClientRow {
            name: "alice".into(),
            home: "n1".into(),
            via: "n2".into(),
            connected: true,
            last_seen_ns: 1_795_224_645_123_456_789,
        };
        assert_eq!(
            shown(Shape::Ndjson, &[ClientView::from(row.clone())]),
            concat!(
                r#"{"name":"alice","home":"n1","via":"n2","connected":true,"#,
                r#""last_seen":"2026-11-21T01:30:45.123456789Z"}"#,
                "\n"
            )
        );
        let never = ClientRow { via: String::new(), connected: false, last_seen_ns: 0, ..row };
        assert_eq!(
            shown(Shape::Ndjson, &[ClientView::from(never)]),
            "{\"name\":\"alice\",\"home\":\"n1\",\"via\":null,\"connected\":false,\"last_seen\":null}\n"
        );
    }
}
