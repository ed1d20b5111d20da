//! Names of ciphers and curves of OpenSSL that `icm` has, too. Lists of nginx and HAProxy have many others, which are left
//! out.

/// OpenSSL's names of the ciphers of TLS 1.2 that `icm` has.
const TLS12_CIPHERS: [&str; 6] = [
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-RSA-CHACHA20-POLY1305",
];
const TLS13_CIPHERS: [&str; 3] =
    ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256", "TLS_AES_128_GCM_SHA256"];

/// The ciphers of a list with colons that `icm` has, those of TLS 1.3 first; `None` if none of TLS 1.2 is left.
pub(crate) fn ciphers(text: &str, tls13: &str) -> Option<Vec<String>> {
    let known = |names: &[&str], text: &str| -> Vec<String> {
        text.split([':', ',', ' ']).filter(|name| names.contains(name)).map(str::to_owned).collect()
    };
    let of_tls12 = known(&TLS12_CIPHERS, text);
    if of_tls12.is_empty() {
        return None;
    }
    let mut all = known(&TLS13_CIPHERS, tls13);
    if all.is_empty() {
        all = TLS13_CIPHERS.map(str::to_owned).to_vec();
    }
    all.extend(of_tls12);
    Some(all)
}

/// The curves of a list with colons that `icm` has.
pub(crate) fn curves(text: &str) -> Vec<String> {
    let name = |name: &str| match &*name.to_ascii_lowercase() {
        "x25519" => Some("X25519"),
        "prime256v1" | "secp256r1" | "p-256" => Some("P-256"),
        "secp384r1" | "p-384" => Some("P-384"),
        _ => None,
    };
    text.split([':', ',']).filter_map(name).map(str::to_owned).collect()
}
