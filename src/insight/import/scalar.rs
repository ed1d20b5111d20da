//! Times and sizes of nginx and HAProxy as `icm.yaml` writes them, and texts as YAML scalars. They are apart because both
//! translators need them.

/// A time of nginx, such as `90`, `500ms` or `1h 30m`, in milliseconds.
pub(crate) fn nginx_millis(text: &str) -> Option<u64> {
    millis(text, 1000)
}

/// A time of HAProxy, where a bare number means milliseconds.
pub(crate) fn haproxy_millis(text: &str) -> Option<u64> {
    millis(text, 1)
}

fn millis(text: &str, without_unit: u64) -> Option<u64> {
    const SECOND: u64 = 1000;
    let mut rest = text.trim();
    let mut total: u64 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let (number, behind) = rest.split_at_checked(digits)?;
        let letters = behind.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, behind) = behind.split_at_checked(letters)?;
        let number: u64 = number.parse().ok()?;
        let value = match unit {
            "" => number.checked_mul(without_unit)?,
            "us" => number / 1000,
            "ms" => number,
            "s" => number.checked_mul(SECOND)?,
            "m" => number.checked_mul(60 * SECOND)?,
            "h" => number.checked_mul(3600 * SECOND)?,
            "d" => number.checked_mul(86_400 * SECOND)?,
            "w" => number.checked_mul(7 * 86_400 * SECOND)?,
            "M" => number.checked_mul(30 * 86_400 * SECOND)?,
            "y" => number.checked_mul(365 * 86_400 * SECOND)?,
            _ => return None,
        };
        total = total.checked_add(value)?;
        rest = behind.trim_start();
    }
    Some(total)
}

/// A duration of `icm.yaml`.
pub(crate) fn duration(millis: u64) -> String {
    match millis {
        ms if ms % 1000 != 0 => format!("{ms}ms"),
        ms if ms >= 120_000 && ms % 60_000 == 0 => format!("{}m", ms / 60_000),
        ms => format!("{}s", ms / 1000),
    }
}

/// A size such as `50m` or `8192` in bytes.
pub(crate) fn bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits)?;
    let number: u64 = number.parse().ok()?;
    let factor = match unit {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    number.checked_mul(factor)
}

/// A size of `icm.yaml`, in the largest unit that divides it.
pub(crate) fn size(bytes: u64) -> String {
    let units = [(1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB")];
    match units.iter().find(|(factor, _)| bytes > 0 && bytes % factor == 0) {
        Some((factor, unit)) => format!("{}{unit}", bytes / factor),
        None if bytes == 0 => "0".to_owned(),
        None => format!("{bytes}B"),
    }
}

/// A text as a YAML scalar that is read as the same text. Nothing in it can end the scalar.
pub(crate) fn scalar(text: &str) -> String {
    let is_plain_char = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-');
    let starts_plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    let lower = text.to_ascii_lowercase();
    let is_word = matches!(&*lower, "true" | "false" | "null" | "yes" | "no" | "on" | "off" | "y" | "n");
    if starts_plain && !is_word && text.chars().all(is_plain_char) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                quoted.push('\\');
                quoted.push(c);
            }
            c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}') => {
                quoted.push_str(&format!("\\U{:08X}", u32::from(c)));
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// A whole number, written as such.
pub(crate) fn number(text: &str) -> Option<String> {
    text.trim().parse::<u32>().ok().map(|number| number.to_string())
}

/// A list of texts in the flow style.
pub(crate) fn list<T: AsRef<str>>(values: &[T]) -> String {
    let values: Vec<String> = values.iter().map(|value| scalar(value.as_ref())).collect();
    match values.as_slice() {
        [one] => format!("[{one}]"),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_the_unit_of_their_program() {
        assert_eq!(nginx_millis("90").map(duration).as_deref(), Some("90s"));
        assert_eq!(nginx_millis("1h 30m").map(duration).as_deref(), Some("90m"));
        assert_eq!(haproxy_millis("5000").map(duration).as_deref(), Some("5s"));
        assert_eq!(haproxy_millis("1500").map(duration).as_deref(), Some("1500ms"));
        assert_eq!((nginx_millis("off"), haproxy_millis(""), nginx_millis("5x")), (None, None, None));
    }

    #[test]
    fn sizes_keep_their_number_of_bytes() {
        let sizes = ["50m", "1536", "0", "16k", "1G"].map(|text| bytes(text).map(size).unwrap());
        assert_eq!(sizes, ["50MiB", "1536B", "0", "16KiB", "1GiB"]);
        assert_eq!((bytes("ten"), bytes("99999999999999999999")), (None, None));
    }

    proptest::proptest! {
        #[test]
        fn a_scalar_is_read_as_the_text_that_was_written(text in "\\PC{0,20}|[\\x00-\\x7f\\u{85}\\u{2028}]{0,12}") {
            let yaml = format!("key: {} # comment\nnext: [{}, 1]\n", scalar(&text), scalar(&text));
            let read: serde_yaml::Value = serde_yaml::from_str(&yaml).unwrap();
            proptest::prop_assert_eq!(read["key"].as_str(), Some(&*text));
            proptest::prop_assert_eq!(read["next"][0].as_str(), Some(&*text));
        }
    }
}
