//! Pure: what must not leave the station, taken out of texts.

use toml::Value;

/// What stands in place of a secret.
pub const HIDDEN: &str = "(secret left out)";

/// The configuration without comments, without what looks like a secret by its key, and without credentials in addresses.
pub fn config_without(mut config: Value) -> Value {
    hide(&mut config);
    config
}

fn hide(value: &mut Value) {
    match value {
        // One address, whatever stands in its password.
        Value::String(text) => *text = address_without(text),
        Value::Array(items) => items.iter_mut().for_each(hide),
        Value::Table(table) => {
            for (key, inner) in table.iter_mut() {
                if is_secret(key) { *inner = Value::String(HIDDEN.to_owned()) } else { hide(inner) }
            }
        }
        _ => {}
    }
}

/// A key whose value is a secret itself. One that ends in `_file` names the place where the secret is.
pub fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    let place = ["_file", "_env"].iter().any(|end| key.ends_with(end));
    // As a whole name: `public_key` and `spin` are none.
    if ["pass", "pwd", "pin", "auth", "key"].contains(&key.as_str()) {
        return true;
    }
    let words =
        ["password", "passwd", "secret", "token", "credential", "authorization", "private_key", "api_key", "apikey"];
    !place && words.iter().any(|word| key.contains(word))
}

/// `rtsp://user:password@camera` becomes `rtsp://(secret left out)@camera`, wherever it stands in a text, and so does a value
/// whose name in an address' query is that of a secret. A password may hold anything but blanks and quotes, also what an
/// address should not: so everything up to the last `@` goes.
pub fn urls_without(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("://") {
        let (before, after) = rest.split_at(at + 3);
        out.push_str(before);
        let end = after.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '>')).unwrap_or(after.len());
        let mut address = &after[..end];
        if let Some(sign) = address.rfind('@') {
            out.push_str(HIDDEN);
            address = &address[sign..];
        }
        query_without(address, &mut out);
        rest = &after[end..];
    }
    out.push_str(rest);
    out
}

/// As [`urls_without`] of a text that is one address.
fn address_without(text: &str) -> String {
    match (text.split_once("://"), text.rfind('@')) {
        (Some((scheme, _)), Some(sign)) if sign > scheme.len() => {
            let mut out = format!("{scheme}://{HIDDEN}");
            query_without(&text[sign..], &mut out);
            out
        }
        _ => urls_without(text),
    }
}

fn query_without(address: &str, out: &mut String) {
    let Some((path, query)) = address.split_once('?') else { return out.push_str(address) };
    out.push_str(path);
    for (index, part) in query.split('&').enumerate() {
        out.push(if index == 0 { '?' } else { '&' });
        match part.split_once('=') {
            // What was taken out before, as far as its first blank.
            Some((_, value)) if HIDDEN.starts_with(value) && !value.is_empty() => out.push_str(part),
            Some((name, _)) if is_secret(name) || name.eq_ignore_ascii_case("sig") => {
                out.push_str(name);
                out.push('=');
                out.push_str(HIDDEN);
            }
            _ => out.push_str(part),
        }
    }
}

/// A text without credentials in addresses and without any of the secrets, as they are and line by line.
pub fn text_without(text: &str, secrets: &[String]) -> String {
    let mut text = urls_without(text);
    for secret in secrets {
        // Too short to be one, and likely to be a part of ordinary words.
        for line in secret.lines().map(str::trim).filter(|line| line.len() >= 6 && !line.starts_with("-----")) {
            text = text.replace(line, HIDDEN);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_go_and_what_helps_stays() {
        let config: Value = toml::from_str(
            "a = \"rtsp://admin:hunter22@10.0.0.9:554/live?x=1\"\npassword = \"hunter22\"\npassword_file = \"broker.password\"\n\
             [[hooks]]\nheaders = { Authorization = \"Bearer hunter22\", Accept = \"json\" }\n[keys]\npublic_key = \"abc\"\nmy_token = [\"hunter22\"]",
        )
        .unwrap();
        let out = toml::to_string(&config_without(config)).unwrap();
        assert!(!out.contains("hunter22") && !out.contains("admin"), "{out}");
        for kept in ["@10.0.0.9:554/live?x=1", "broker.password", "abc", "json"] {
            assert!(out.contains(kept), "{kept}: {out}");
        }
    }

    #[test]
    fn a_password_that_no_address_should_hold_goes_as_well_and_so_does_a_token_in_a_query() {
        for (text, kept) in [
            ("http://admin:PLANT-d/ock7@127.0.0.1:45051/x?token=PLANTq8&n=3", "@127.0.0.1:45051/x?token="),
            ("seen mqtt://a:PLANT#5@h, then more", "@h, then more"),
            ("\"rtsp://u:PLANT?9@cam/live?x=1\"", "@cam/live?x=1\""),
            ("https://h/put?sig=PLANT&key=PLANT", "https://h/put?sig="),
            ("mqtt://a:pa,PLANT@h", "@h"),
        ] {
            let out = urls_without(text);
            assert!(!out.contains("PLANT") && out.contains(kept), "{out}");
        }
        let config: Value =
            toml::from_str("pass = \"PLANT\"\npin = 1234\nauth = \"PLANT\"\nurl = \"mqtt://a:x PLANT,1@h/p?n=3\"\nkey = \"PLANT\"\npublic_key = \"abc\"")
                .unwrap();
        let out = toml::to_string(&config_without(config)).unwrap();
        assert!(
            !out.contains("PLANT") && !out.contains("1234") && out.contains("abc") && out.contains("@h/p?n=3"),
            "{out}"
        );
        let once = urls_without("GET http://dock/x?token=hunter22&a=1 failed");
        assert_eq!(urls_without(&once), once, "taken out twice it reads the same");
    }

    #[test]
    fn a_known_secret_is_found_anywhere_in_a_text() {
        let secrets = [
            "tok-123456\n".to_owned(),
            "-----BEGIN PRIVATE KEY-----\nMC4CAQAw\n-----END PRIVATE KEY-----\n".to_owned(),
        ];
        let out = text_without("sent Bearer tok-123456 to http://u:p@h/ and http://h/ MC4CAQAw end", &secrets);
        assert_eq!(out, format!("sent Bearer {HIDDEN} to http://{HIDDEN}@h/ and http://h/ {HIDDEN} end"));
    }
}
