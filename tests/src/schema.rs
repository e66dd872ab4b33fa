//! Answers against the schemas of the document that describes them: as much of JSON Schema as that uses.

use serde_json::Value;

/// Why a value is not what a schema of the document says.
///
/// # Errors
/// With the place, and what was wanted there.
pub fn check(document: &Value, schema: &Value, value: &Value, at: &str) -> Result<(), String> {
    if let Some(target) = schema["$ref"].as_str() {
        let target = document.pointer(target.trim_start_matches('#'));
        return check(document, target.ok_or("a reference to nothing")?, value, at);
    }
    if let Some(several) = schema["oneOf"].as_array() {
        let fits = |one: &&Value| check(document, one, value, at).is_ok();
        let fitting = several.iter().filter(fits).count();
        return if fitting == 1 { Ok(()) } else { Err(format!("{at}: {fitting} fit: {value}")) };
    }
    let kinds = match &schema["type"] {
        Value::String(kind) => vec![kind.as_str()],
        Value::Array(kinds) => kinds.iter().filter_map(Value::as_str).collect(),
        _ => return Ok(()),
    };
    if !kinds.contains(&kind_of(value)) {
        return Err(format!("{at}: {kinds:?} is wanted: {value}"));
    }
    if let Some(known) = schema["enum"].as_array().filter(|known| !known.contains(value)) {
        return Err(format!("{at}: one of {known:?} is wanted: {value}"));
    }
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        check(document, &schema["items"], item, &format!("{at}[{n}]"))?;
    }
    let Some(fields) = value.as_object() else { return Ok(()) };
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            return Err(format!("{at}: '{name}' is missing: {value}"));
        }
    }
    for (name, field) in fields {
        let at = format!("{at}.{name}");
        let described = schema["properties"].get(name).unwrap_or(&Value::Null);
        match (described, &schema["additionalProperties"]) {
            (Value::Null, Value::Bool(false)) => return Err(format!("{at} is not described")),
            (Value::Null, other) => check(document, other, field, &at)?,
            (described, _) => check(document, described, field, &at)?,
        }
    }
    Ok(())
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_missing_surplus_or_of_another_kind_is_found() {
        let document = json!({"a": {"type": "object", "required": ["n"], "additionalProperties": false,
            "properties": {"n": {"type": "integer"}, "s": {"type": ["string", "null"]}}}});
        let list = json!({"type": "array", "items": {"$ref": "#/a"}});
        let check = |value: Value| check(&document, &list, &value, "it");
        check(json!([{"n": 1}, {"n": 2, "s": null}, {"n": 3, "s": "x"}])).unwrap();
        for bad in [
            json!({"n": 1}),
            json!([{"s": "x"}]),
            json!([{"n": "1"}]),
            json!([{"n": 1.5}]),
            json!([{"n": 1, "s": 2}]),
            json!([{"n": 1, "other": 2}]),
        ] {
            assert!(check(bad.clone()).is_err(), "{bad}");
        }
    }
}
