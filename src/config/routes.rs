//! `routes` of a cluster: rules that lead requests elsewhere than to the database of their URL.

use std::sync::Arc;

use super::keys;
use super::reader::Item;
use super::request_match::{self, MatchOf};
use super::settings::{Route, RouteAction};

/// Reads the routes in their order.
pub(super) fn routes(item: &Item<'_>) -> Vec<Arc<Route>> {
    item.list().iter().enumerate().map(|(number, item)| Arc::new(route(item, number))).collect()
}

fn route(item: &Item<'_>, number: usize) -> Route {
    let map = item.map(keys::ROUTE);
    Route {
        name: map.get("name").text().unwrap_or_else(|| format!("routes[{number}]")).into(),
        condition: request_match::read(&map.get("match"), MatchOf::Route),
        action: RouteAction::Directory,
    }
}
