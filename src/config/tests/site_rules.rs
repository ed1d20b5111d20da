//! `site_rules` of `servers: { source: names }`: off unless written, and the columns of the recipe.

use super::super::ConfigErrors;
use super::super::settings::{Column, Servers, SiteRulesView};
use super::support::{cluster, load};

fn of(rest: &str) -> Result<Option<SiteRulesView>, String> {
    let names = format!("    servers: {{ source: names, from: [http://10.0.0.1]{rest} }}\n    directory:");
    let text = cluster("");
    let (before, after) = text.split_once("    servers:").unwrap();
    let (_, after) = after.split_once("    directory:").unwrap();
    let text = format!("{before}{names}{after}");
    match load(&text) {
        Ok(loaded) => match &loaded.settings.clusters[0].servers {
            Servers::Names(view) => Ok(view.site_rules.clone()),
            other => panic!("{other:?}"),
        },
        Err(errors) => Err(ConfigErrors(errors).to_string()),
    }
}

#[test]
fn rules_of_the_site_are_read_only_if_wanted_from_the_view_of_the_recipe() {
    assert_eq!(of(""), Ok(None));
    assert_eq!(of(", site_rules: off"), Ok(None));
    let standard = of(", site_rules: on").unwrap().unwrap();
    assert_eq!(standard.view, "ICM Web Rules");
    let columns = &standard.columns;
    let names = [&columns.kind, &columns.incoming, &columns.replacement, &columns.host];
    assert_eq!(
        names,
        ["RuleType", "Incoming", "Replacement", "Hosts"].map(|n| Column::Name(n.into())).each_ref()
    );
    assert_eq!(of(", site_rules: {}"), Ok(Some(standard)));
    let own = of(", site_rules: { view: Rules, columns: { type: 0, host: ISiteAdrs } }").unwrap().unwrap();
    assert_eq!((own.view.as_str(), own.columns.kind), ("Rules", Column::Number(0)));
    assert_eq!(own.columns.host, Column::Name("ISiteAdrs".into()));
}

#[test]
fn wrong_keys_of_site_rules_are_errors() {
    for (value, parts) in [
        ("{ views: Rules }", ["site_rules.views: unknown key", "did you mean `view`?"]),
        ("{ columns: { types: 0 } }", ["site_rules.columns.types: unknown key", "did you mean `type`?"]),
        ("[ a ]", ["site_rules", "is a list"]),
        ("maybe", ["site_rules", "maybe"]),
    ] {
        let shown = of(&format!(", site_rules: {value}")).unwrap_err();
        for part in parts {
            assert!(shown.contains(part), "{value}: {shown}");
        }
    }
}
