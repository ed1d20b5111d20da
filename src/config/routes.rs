//! `routes` of a cluster: rules that lead requests elsewhere than to the database of their URL.

use std::sync::Arc;

use super::home_mail;
use super::keys;
use super::pools::pool_name;
use super::reader::Item;
use super::request_match::{self, MatchOf};
use super::settings::{ClusterSettings, Mode, Route, RouteAction};
use super::values::{self, ValueError};

/// Reads the routes in their order. They may lead to `pools` of the cluster.
pub(super) fn routes(item: &Item<'_>, pools: &[ClusterSettings], mode: Mode) -> Vec<Arc<Route>> {
    item.list().iter().enumerate().map(|(number, item)| Arc::new(route(item, number, pools, mode))).collect()
}

fn route(item: &Item<'_>, number: usize, pools: &[ClusterSettings], mode: Mode) -> Route {
    let map = item.map(keys::ROUTE);
    Route {
        name: map.get("name").text().unwrap_or_else(|| format!("routes[{number}]")).into(),
        condition: request_match::read(&map.get("match"), MatchOf::Route),
        action: pool(&map.get("pool"), pools)
            .or_else(|| home_mail::home_mail(&map.get("home_mail"), mode))
            .unwrap_or(RouteAction::Directory),
    }
}

/// The pool of this name.
fn pool(item: &Item<'_>, pools: &[ClusterSettings]) -> Option<RouteAction> {
    let wanted = item.text()?;
    let names = || pools.iter().map(pool_name);
    let found = names().position(|name| name.eq_ignore_ascii_case(&wanted));
    if found.is_none() {
        let hint = match values::similar(&wanted, names()) {
            Some(name) => format!("did you mean `{name}`?"),
            None if pools.is_empty() => "write it under `pools` of the cluster".to_owned(),
            None => format!("the pools are {}", names().collect::<Vec<_>>().join(", ")),
        };
        item.error(ValueError::new(format!("the cluster has no pool `{wanted}`")).hint(hint));
    }
    found.map(RouteAction::Pool)
}
