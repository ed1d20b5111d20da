//! A validator for the part of JSON Schema that `docs/openapi.json` and `docs/companion.schema.json` use. An unknown keyword
//! is an error, so that none is silently ignored.

use serde_json::Value;

/// The errors of `value`. `$ref` is resolved in `root`.
pub fn faults(root: &Value, schema: &Value, value: &Value) -> Vec<String> {
    let mut out = Vec::new();
    check(root, schema, value, "$", &mut out);
    out
}

fn check(root: &Value, schema: &Value, value: &Value, at: &str, out: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else {
        return out.push(format!("{at}: {schema} is not a schema"));
    };
    for (keyword, rule) in rules {
        let fault = match keyword.as_str() {
            "$schema" | "$defs" | "title" | "description" | "default" => None,
            "$ref" => {
                let pointer = rule.as_str().unwrap().strip_prefix('#').unwrap();
                match root.pointer(pointer) {
                    Some(schema) => check(root, schema, value, at, out),
                    None => out.push(format!("{at}: {pointer} does not exist")),
                }
                None
            }
            "type" => {
                let one = std::slice::from_ref(rule);
                let types = rule.as_array().map_or(one, Vec::as_slice);
                let fits = types.iter().any(|t| is_of(value, t.as_str().unwrap()));
                (!fits).then(|| format!("{value} is not {rule}"))
            }
            "enum" => {
                let fits = rule.as_array().unwrap().contains(value);
                (!fits).then(|| format!("{value} is not one of {rule}"))
            }
            "minimum" => {
                value.as_f64().filter(|v| *v < rule.as_f64().unwrap()).map(|v| format!("{v} < {rule}"))
            }
            "maximum" => {
                value.as_f64().filter(|v| *v > rule.as_f64().unwrap()).map(|v| format!("{v} > {rule}"))
            }
            // The only pattern in use: a replica ID.
            "pattern" => {
                assert_eq!(rule, "^[0-9A-F]{16}$");
                let text = value.as_str().unwrap_or_default();
                let fits = text.len() == 16 && text.bytes().all(|o| matches!(o, b'0'..=b'9' | b'A'..=b'F'));
                (!fits).then(|| format!("{value} does not match {rule}"))
            }
            "required" => {
                let names = rule.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
                let missing: Vec<_> =
                    names.filter(|name| value.is_object() && value.get(name).is_none()).collect();
                (!missing.is_empty()).then(|| format!("{missing:?} missing"))
            }
            "properties" => {
                for (name, schema) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        check(root, schema, value, &format!("{at}.{name}"), out);
                    }
                }
                None
            }
            "items" => {
                for (n, value) in value.as_array().into_iter().flatten().enumerate() {
                    check(root, rule, value, &format!("{at}[{n}]"), out);
                }
                None
            }
            unknown => Some(format!("the keyword {unknown} is not supported")),
        };
        out.extend(fault.map(|fault| format!("{at}: {fault}")));
    }
}

fn is_of(value: &Value, kind: &str) -> bool {
    match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        _ => false,
    }
}
