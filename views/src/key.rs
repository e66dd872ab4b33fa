//! Keys of the replicated dictionary, in the forms that are shown.

use proto::kv::KvRow;
use proto::record::read_stamp;
use serde::Serialize;

use crate::Unreadable;
use crate::record::base64_text;
use crate::show::{Cell, Show};

/// A key. The value is text where it is UTF-8, else base64 under another name.
#[derive(Debug, Serialize)]
pub struct KeyView {
    key: String,
    #[serde(flatten)]
    value: Value,
    version: u64,
    by: String,
    /// Whose key it is; `null` for one that was made before keys had owners.
    owner: Option<String>,
    /// Who else may change it: `*`, `@group`, or `null` for nobody.
    shared_with: Option<String>,
    stamp: String,
}

#[derive(Debug, Serialize)]
enum Value {
    #[serde(rename = "value")]
    Text(String),
    #[serde(rename = "value_b64", serialize_with = "base64_text")]
    Bytes(Vec<u8>),
}

impl TryFrom<KvRow> for KeyView {
    type Error = Unreadable;

    fn try_from(row: KvRow) -> Result<Self, Unreadable> {
        let stamp = read_stamp(&row.stamp).map_err(|error| Unreadable(error.to_string()))?;
        let value = match String::from_utf8(row.value) {
            Ok(text) => Value::Text(text),
            Err(error) => Value::Bytes(error.into_bytes()),
        };
        let some = |text: String| Some(text).filter(|text| !text.is_empty());
        Ok(Self {
            key: row.key,
            value,
            version: row.version,
            by: row.by,
            owner: some(row.owner),
            shared_with: some(row.shared_with),
            stamp: stamp.hlc.to_string(),
        })
    }
}

impl KeyView {
    fn whose(&self) -> String {
        let owner = self.owner.as_deref().unwrap_or("-");
        self.shared_with.as_ref().map_or_else(|| owner.to_owned(), |with| format!("{owner}+{with}"))
    }

    fn text(&self) -> String {
        match &self.value {
            Value::Text(text) => text.clone(),
            Value::Bytes(bytes) => format!("({} bytes, not text)", bytes.len()),
        }
    }
}

impl Show for KeyView {
    fn headings() -> &'static [&'static str] {
        &["KEY", "VERSION", "BY", "OWNER", "STAMP", "VALUE"]
    }

    fn row(&self) -> Vec<Cell> {
        vec![
            self.key.as_str().into(),
            self.version.to_string().into(),
            self.by.as_str().into(),
            self.whose().into(),
            self.stamp.as_str().into(),
            self.text().into(),
        ]
    }

    fn plain(&self) -> Vec<String> {
        vec![
            self.key.clone(),
            self.version.to_string(),
            self.by.clone(),
            self.whose(),
            self.stamp.clone(),
            self.text(),
        ]
    }
}
