//! `ssl_...` of nginx as `tls` of a listener.

use super::super::directive::Directive;
use super::super::files::absolute;
use super::super::model::{ImportedCertificate, ImportedListener};
use super::super::report::ImportReport;
use super::super::scalar;
use super::super::tls_names::{ciphers, curves};
use super::Context;
use super::block::ServerBlock;

/// Adds the certificates of a block and what it says about TLS.
pub(super) fn translate(
    block: &ServerBlock<'_>,
    http: &[&Directive],
    listener: &mut ImportedListener,
    context: &mut Context<'_>,
) {
    let own: Vec<&Directive> = block.d.body().iter().collect();
    let pick = |name: &str| {
        let found: Vec<&Directive> = own.iter().copied().filter(|d| d.name == name).collect();
        if found.is_empty() { http.iter().copied().filter(|d| d.name == name).collect() } else { found }
    };
    let certificates = pick("ssl_certificate");
    let keys = pick("ssl_certificate_key");
    for (at, cert) in certificates.iter().enumerate() {
        let key = keys.get(at).or_else(|| keys.first());
        let is_file = |d: &Directive| !d.arg(0).contains('$') && !d.arg(0).contains(':');
        let Some(key) = key.filter(|key| is_file(cert) && is_file(key)) else {
            context.report.cannot(
                cert,
                "icm reads certificates from two files",
                "listeners[].tls.certificates",
            );
            continue;
        };
        let (cert_file, key_file) =
            (absolute(&context.root, cert.arg(0)), absolute(&context.root, key.arg(0)));
        let at = cert.at.clone();
        let certificate = ImportedCertificate { cert: cert_file, key: key_file, at };
        if !listener.certificates.iter().any(|known| known.cert == certificate.cert) {
            let is_default = block.named("listen").any(|d| d.args.iter().any(|arg| arg == "default_server"));
            let place = if is_default { 0 } else { listener.certificates.len() };
            listener.certificates.insert(place, certificate);
        }
        context.report.taken(cert, "tls.certificates");
        context.report.taken(key, "tls.certificates");
    }
    for name in ["ssl_protocols", "ssl_ciphers", "ssl_ecdh_curve", "ssl_client_certificate"] {
        for d in pick(name) {
            setting(d, &pick("ssl_verify_client"), listener, context);
        }
    }
}

/// Reports a block whose clients needed no certificate, if its listener now asks all clients for one.
pub(super) fn report_client_certificates(
    block: &ServerBlock<'_>,
    http: &[&Directive],
    listener: &ImportedListener,
    report: &mut ImportReport,
) {
    let verify = block.named("ssl_verify_client").next();
    let verify = verify.or_else(|| http.iter().copied().find(|d| d.name == "ssl_verify_client"));
    let asks = verify.is_some_and(|d| d.arg(0) != "off");
    if !asks && listener.keys.get(&["tls", "client_certificates", "mode"]).is_some() {
        let why =
            format!("the listener {} asks the clients of all host names for a certificate", listener.address);
        report.cannot(block.d, &why, "an address of its own for the host names that need one");
    }
}

fn setting(d: &Directive, verify: &[&Directive], listener: &mut ImportedListener, context: &mut Context<'_>) {
    let report = &mut *context.report;
    let mut set = |path: &[&str], value: String| match listener.keys.set(path, value, &d.at) {
        Ok(()) => report.taken(d, &format!("listeners[].{}", path.join("."))),
        Err(other) => {
            let why = format!("a listener has one {}, {other}", path.join("."));
            report.cannot(d, &why, "another address, or one value");
        }
    };
    match &*d.name {
        "ssl_protocols" => {
            let has = |version: &str| d.args.iter().any(|arg| arg == version);
            if has("TLSv1.2") {
                set(&["tls", "min_version"], "\"1.2\"".to_owned());
            } else if has("TLSv1.3") {
                set(&["tls", "min_version"], "\"1.3\"".to_owned());
            }
            if has("TLSv1") || has("TLSv1.1") || has("SSLv3") {
                report.cannot(d, "there is no TLS before 1.2 (RFC 8996)", "");
            }
        }
        "ssl_ciphers" => match ciphers(d.arg(0), "") {
            Some(list) => {
                set(&["tls", "ciphers"], scalar::list(&list));
                if d.arg(0).split(':').any(|name| !list.iter().any(|known| known == name)) {
                    report.cannot(
                        d,
                        "icm has only ciphers with forward secrecy and AEAD; others are left out",
                        "",
                    );
                }
            }
            None => {
                report.cannot(d, "the list names no cipher that icm has; its default is used", "tls.ciphers")
            }
        },
        "ssl_ecdh_curve" => {
            let list = curves(d.arg(0));
            if list.is_empty() {
                report.not_needed(d, "the default has all curves of icm");
            } else {
                set(&["tls", "curves"], scalar::list(&list));
            }
        }
        _ => {
            let mode = match verify.first().map(|d| d.arg(0)) {
                Some("on") => "require",
                Some("optional") => "request",
                _ => return report.not_needed(d, "clients are asked for no certificate"),
            };
            let file = absolute(&context.root, d.arg(0));
            set(&["tls", "client_certificates", "ca_file"], scalar::scalar(&file));
            set(&["tls", "client_certificates", "mode"], mode.to_owned());
            verify.iter().for_each(|d| report.taken(d, "listeners[].tls.client_certificates.mode"));
        }
    }
}
