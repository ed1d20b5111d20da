//! What both configurations have in common, in the terms of `icm.yaml`: listeners, clusters, servers, pools, routes, access
//! rules. The translators fill it and `yaml` writes it, so that neither knows the other.

use super::directive::SourceLine;
use super::scalar;

/// The value of a key, and the line that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportedValue {
    pub content: ValueContent,
    pub at: SourceLine,
}

/// A value in the flow style of YAML, or a list that grows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ValueContent {
    Flow(String),
    List(Vec<String>),
}

impl ImportedValue {
    pub fn text(&self) -> String {
        match &self.content {
            ValueContent::Flow(text) => text.clone(),
            ValueContent::List(items) => scalar::list(items),
        }
    }
}

/// Keys below one map of `icm.yaml`, in the order in which they were set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeySet(pub Vec<(Vec<String>, ImportedValue)>);

impl KeySet {
    pub fn get(&self, path: &[&str]) -> Option<&ImportedValue> {
        self.0.iter().find(|(key, _)| key == path).map(|(_, value)| value)
    }

    /// Sets a key to a value in the flow style.
    ///
    /// # Errors
    /// The other value that the key has already, and its line.
    pub fn set(&mut self, path: &[&str], value: impl Into<String>, at: &SourceLine) -> Result<(), String> {
        let value = value.into();
        if let Some(other) = self.get(path) {
            let same = other.text() == value;
            return if same { Ok(()) } else { Err(format!("{} of {}", other.text(), other.at)) };
        }
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        self.0.push((path, ImportedValue { content: ValueContent::Flow(value), at: at.clone() }));
        Ok(())
    }

    /// Adds texts to a list, each once.
    pub fn push(&mut self, path: &[&str], items: &[String], at: &SourceLine) {
        let known = self.0.iter_mut().find(|(key, _)| key == path);
        if let Some((_, ImportedValue { content: ValueContent::List(list), .. })) = known {
            for item in items {
                if !list.contains(item) {
                    list.push(item.clone());
                }
            }
            return;
        }
        let path = path.iter().map(|part| (*part).to_owned()).collect();
        self.0.push((path, ImportedValue { content: ValueContent::List(items.to_vec()), at: at.clone() }));
    }
}

/// Everything that is written.
#[derive(Debug, Default)]
pub(crate) struct ImportModel {
    pub listeners: Vec<ImportedListener>,
    pub clusters: Vec<ImportedCluster>,
    /// The keys outside `listeners` and `clusters`.
    pub global: KeySet,
}

/// An address with all that holds for it.
#[derive(Clone, Debug)]
pub(crate) struct ImportedListener {
    pub address: String,
    pub at: SourceLine,
    pub redirect_to_https: Option<SourceLine>,
    /// Besides address and certificates: `trusted_proxies`, `tls.min_version` and so on.
    pub keys: KeySet,
    pub certificates: Vec<ImportedCertificate>,
    pub has_tls: bool,
    /// The proxy in front sends the PROXY protocol, and its addresses are not known.
    pub wants_proxy_protocol: bool,
}

/// The files of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportedCertificate {
    pub cert: String,
    pub key: String,
    pub at: SourceLine,
}

/// A cluster of Domino servers, as far as the other proxy knows it.
#[derive(Clone, Debug)]
pub(crate) struct ImportedCluster {
    pub name: String,
    pub at: SourceLine,
    /// None: all names that no other cluster has.
    pub hostnames: Vec<String>,
    pub scheme: &'static str,
    pub servers: Vec<ImportedServer>,
    pub pools: Vec<ImportedPool>,
    pub routes: Vec<ImportedRoute>,
    pub access: Vec<ImportedRule>,
    /// Rules with exceptions, which come behind all others.
    pub exceptions: Vec<AccessException>,
    pub keys: KeySet,
    /// Why it is written as a comment only; empty if it is not.
    pub commented_out: String,
}

/// A server of a cluster or a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportedServer {
    pub name: String,
    /// Host and port, as `http` or `https` of the server.
    pub address: String,
    pub at: SourceLine,
    pub keys: KeySet,
}

/// Servers to which only routes lead.
#[derive(Clone, Debug)]
pub(crate) struct ImportedPool {
    pub name: String,
    pub at: SourceLine,
    pub scheme: &'static str,
    pub servers: Vec<ImportedServer>,
    pub keys: KeySet,
}

/// A condition on requests: the keys of `match` with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ImportedMatch {
    pub lists: Vec<(&'static str, Vec<String>)>,
    pub headers: Vec<(String, String)>,
}

impl ImportedMatch {
    pub fn of(key: &'static str, values: Vec<String>) -> Self {
        Self { lists: vec![(key, values)], headers: Vec::new() }
    }

    pub fn is_everything(&self) -> bool {
        self.lists.is_empty() && self.headers.is_empty()
    }

    pub fn get(&self, key: &str) -> Option<&[String]> {
        self.lists.iter().find(|(name, _)| *name == key).map(|(_, values)| values.as_slice())
    }

    /// Both conditions at once; `None` if they have a key in common, which cannot be written.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let has = |key: &str| self.get(key).is_some();
        let has_header = |name: &str| self.headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        if other.lists.iter().any(|(key, _)| has(key))
            || other.headers.iter().any(|(name, _)| has_header(name))
        {
            return (self == other).then(|| self.clone());
        }
        let mut both = self.clone();
        both.lists.extend(other.lists.iter().cloned());
        both.headers.extend(other.headers.iter().cloned());
        Some(both)
    }

    /// In the flow style of YAML.
    pub fn flow(&self) -> String {
        let mut parts: Vec<String> = self
            .lists
            .iter()
            .map(|(key, values)| match values.as_slice() {
                [one] => format!("{key}: {}", scalar::scalar(one)),
                many => format!("{key}: {}", scalar::list(many)),
            })
            .collect();
        if !self.headers.is_empty() {
            let fields: Vec<String> = self
                .headers
                .iter()
                .map(|(name, value)| format!("{}: {}", scalar::scalar(name), scalar::scalar(value)))
                .collect();
            parts.push(format!("header: {{ {} }}", fields.join(", ")));
        }
        if parts.is_empty() { "all".to_owned() } else { format!("{{ {} }}", parts.join(", ")) }
    }
}

/// A route: its action is one of `keys`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportedRoute {
    pub condition: ImportedMatch,
    pub keys: KeySet,
    pub at: SourceLine,
}

/// A rule of `access`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ImportedRule {
    pub allow: bool,
    pub condition: ImportedMatch,
    /// 403 or 404, for a rule that denies.
    pub status: u16,
    pub at: SourceLine,
}

/// Two rules: requests of `denied` are denied, except those of `excepted`.
#[derive(Clone, Debug)]
pub(crate) struct AccessException {
    pub denied: ImportedMatch,
    pub excepted: ImportedMatch,
    /// Those of `denied` that are allowed; `None` if nothing is left of them.
    pub allowed: Option<ImportedMatch>,
    pub deny: ImportedRule,
}

impl ImportedCluster {
    pub fn new(name: &str, at: &SourceLine) -> Self {
        Self {
            name: name.to_owned(),
            at: at.clone(),
            hostnames: Vec::new(),
            scheme: "http",
            servers: Vec::new(),
            pools: Vec::new(),
            routes: Vec::new(),
            access: Vec::new(),
            exceptions: Vec::new(),
            keys: KeySet::default(),
            commented_out: String::new(),
        }
    }

    /// Lets the first cluster serve all names that no other has, and makes a comment of every later one. `first` is the name of
    /// the first one, once there is one.
    pub fn serve_all_names(&mut self, first: &mut Option<String>) {
        match first {
            None => *first = Some(self.name.clone()),
            Some(other) => {
                self.commented_out = format!(
                    "TODO: write hostnames, because `{other}` serves all names already; then remove the `#`"
                );
            }
        }
    }

    pub fn add_route(&mut self, route: ImportedRoute) {
        let same = |other: &ImportedRoute| other.condition == route.condition;
        if !self.routes.iter().any(same) {
            self.routes.push(route);
        }
    }

    pub fn add_rule(&mut self, rule: ImportedRule) {
        let same = |other: &ImportedRule| other.condition == rule.condition && other.allow == rule.allow;
        if !self.access.iter().any(same) {
            self.access.push(rule);
        }
    }

    /// The pool of this name, which is added if there is none.
    pub fn pool(&mut self, pool: ImportedPool) -> &str {
        let place = self.pools.iter().position(|known| known.name == pool.name).unwrap_or_else(|| {
            self.pools.push(pool);
            self.pools.len() - 1
        });
        self.pools.get(place).map_or("", |pool| &pool.name)
    }
}

/// Why a frontend or a `server` block may be reached on more addresses than before, if it may: `icm` serves every host name on
/// every listener. `own` and `all` are addresses on which requests lead to servers.
pub(crate) fn more_listeners(own: &[String], all: &[String]) -> Option<String> {
    let plain = |address: &String| address.replace("[::]:", "0.0.0.0:");
    let own: Vec<String> = own.iter().map(plain).collect();
    let port = |address: &str| address.rsplit(':').next().unwrap_or_default().to_owned();
    let has = |other: &String| own.contains(other) || own.contains(&format!("0.0.0.0:{}", port(other)));
    let mut more: Vec<String> = all.iter().map(plain).filter(|other| !has(other)).collect();
    more.sort();
    more.dedup();
    let why = "icm serves every host name on every listener, so it is now reached on";
    (!more.is_empty()).then(|| format!("{why} {} as well", more.join(", ")))
}

/// What to do about [`more_listeners`].
pub(crate) const OWN_ICM: &str =
    "for what not every client may reach: rules of `access`, a firewall, or an icm of its own";

impl ImportModel {
    /// The listener of an address, which is added if there is none.
    pub fn listener(&mut self, address: &str, at: &SourceLine) -> &mut ImportedListener {
        let known = self.listeners.iter().position(|l| l.address == address);
        let place = known.unwrap_or_else(|| {
            self.listeners.push(ImportedListener {
                address: address.to_owned(),
                at: at.clone(),
                redirect_to_https: None,
                keys: KeySet::default(),
                certificates: Vec::new(),
                has_tls: false,
                wants_proxy_protocol: false,
            });
            self.listeners.len() - 1
        });
        // The place was found or made above.
        #[allow(clippy::indexing_slicing)]
        &mut self.listeners[place]
    }
}

/// Both programs may need an address for each family; a socket of `icm` on `[::]` takes IPv4 as well, and the second address
/// would be in use.
pub(crate) fn one_family(model: &mut ImportModel) {
    let v6: Vec<String> =
        model.listeners.iter().filter_map(|l| Some(l.address.strip_prefix("[::]")?.to_owned())).collect();
    let mut v4 = Vec::new();
    model.listeners.retain(|l| {
        let is_double =
            l.address.strip_prefix("0.0.0.0").is_some_and(|port| v6.iter().any(|other| other == port));
        if is_double {
            v4.push(l.clone());
        }
        !is_double
    });
    for old in v4 {
        let port = old.address.trim_start_matches("0.0.0.0").to_owned();
        let Some(listener) = model.listeners.iter_mut().find(|l| l.address == format!("[::]{port}")) else {
            continue;
        };
        listener.has_tls |= old.has_tls;
        listener.wants_proxy_protocol |= old.wants_proxy_protocol;
        listener.redirect_to_https = listener.redirect_to_https.take().or(old.redirect_to_https);
        for certificate in old.certificates {
            if !listener.certificates.iter().any(|known| known.cert == certificate.cert) {
                listener.certificates.push(certificate);
            }
        }
        for (path, value) in old.keys.0 {
            if !listener.keys.0.iter().any(|(known, _)| *known == path) {
                listener.keys.0.push((path, value));
            }
        }
    }
}

/// A text as the name of a cluster, pool or server: other characters become `-`.
pub(crate) fn plain_name(text: &str, fallback: &str) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let name: String = text.chars().take(32).map(|c| if fits(c) { c } else { '-' }).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { fallback.to_owned() } else { name.to_owned() }
}
