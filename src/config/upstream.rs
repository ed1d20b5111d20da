//! How the servers of a cluster or pool are reached: `upstream_scheme` and `upstream_tls`. Both have these keys, so neither
//! reads them alone.

use super::keys;
use super::reader::Item;
use super::settings::{UpstreamScheme, UpstreamTls};
use super::tls::authorities;

pub(super) fn scheme(item: &Item<'_>) -> UpstreamScheme {
    let schemes =
        [("http", UpstreamScheme::Http), ("https", UpstreamScheme::Https), ("same", UpstreamScheme::Same)];
    item.choice(&schemes).unwrap_or(UpstreamScheme::Http)
}

pub(super) fn tls(item: &Item<'_>) -> UpstreamTls {
    let map = item.map(keys::UPSTREAM_TLS);
    let authorities = authorities(&map.get("ca_file"));
    let tls = UpstreamTls {
        ca_file: authorities.as_ref().map(|(path, _)| path.clone()),
        ca: authorities.map(|(_, list)| list),
        verify: map.get("verify").boolean().unwrap_or(true),
    };
    if !tls.verify {
        item.warn("verify: false means that any server may pose as a member");
    }
    tls
}
