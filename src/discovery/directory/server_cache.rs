//! The last good list of members on disk; the directory itself is kept by [`copy`](super::index_file).
//!
//! In: servers, a path. Out: a JSON file that only its owner may read, replaced whole by a
//! rename, so that a crash leaves the old one or the new one. Written and read server by server. It
//! blocks: call it off the runtime's threads. It never keeps a password.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::config::settings::Server;
use crate::domain::cluster::HostPort;
use crate::domain::cluster::ServerName;
use crate::util::atomic_file;

/// How caches begin: a list of members (once, of databases too), and a directory.
const FILE_SIGNATURES: [&str; 2] = ["{\"saved_at\":", "{\"icm_directory\":"];

/// What stands in a cache file.
#[derive(Clone, Debug, PartialEq)]
pub struct CachedList<T> {
    /// Entries or servers, in the order they were saved.
    pub items: Vec<T>,
    /// Who gave them.
    pub from: String,
    /// When they were read.
    pub saved_at: SystemTime,
    /// Items that could not be understood, and were left out.
    pub skipped: usize,
}

/// Why a cache file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file or its directory.
    #[error("cache {path}: {source}")]
    Io {
        /// The cache file.
        path: PathBuf,
        /// The system's words.
        source: io::Error,
    },
    /// Not JSON, or not ours.
    #[error("cache {path} is not usable: {reason}")]
    Content {
        /// The cache file.
        path: PathBuf,
        /// With line and column where there are any.
        reason: String,
    },
}

impl CacheError {
    /// True when there is no file yet.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

/// Keeps the members read from a view over the Server documents.
///
/// # Errors
/// When the file cannot be written; the old one is then untouched.
pub fn save_servers(path: &Path, from: &str, at: SystemTime, members: &[Server]) -> Result<(), CacheError> {
    save(path, from, at, members.iter().map(StoredServer::from))
}

/// Reads what [`save_members`] wrote.
///
/// # Errors
/// When there is no such file or it is no cached list of members.
pub fn load_servers(path: &Path) -> Result<CachedList<Server>, CacheError> {
    load::<StoredServer, Server>(path)
}

/// What a file holds; its name stands in the file, so that a mixed-up path is noticed.
trait StoredItem: for<'de> Deserialize<'de> {
    const LIST_KEY: &'static str;
}

#[derive(Serialize, Deserialize)]
struct StoredServer {
    name: String,
    hostname: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<StoredPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    https: Option<StoredPort>,
}

#[derive(Serialize, Deserialize)]
struct StoredPort {
    host: String,
    port: u16,
}

impl StoredItem for StoredServer {
    const LIST_KEY: &'static str = "members";
}

impl From<&Server> for StoredServer {
    fn from(server: &Server) -> Self {
        let port = |at: &HostPort| StoredPort { host: at.host.clone(), port: at.port };
        Self {
            name: server.name.abbreviated().to_owned(),
            hostname: server.hostname.clone(),
            http: server.http.as_ref().map(port),
            https: server.https.as_ref().map(port),
        }
    }
}

impl TryFrom<StoredServer> for Server {
    type Error = ();
    fn try_from(stored: StoredServer) -> Result<Self, ()> {
        let port = |at: StoredPort| {
            (at.port != 0 && !at.host.is_empty()).then_some(HostPort { host: at.host, port: at.port })
        };
        let name = ServerName::parse(&stored.name).map_err(|_| ())?;
        let (http, https) = (stored.http.and_then(port), stored.https.and_then(port));
        if stored.hostname.is_empty() || (http.is_none() && https.is_none()) {
            return Err(());
        }
        Ok(crate::discovery::servers::member(name, stored.hostname, http, https))
    }
}

fn save<T: StoredItem + Serialize>(
    path: &Path,
    from: &str,
    at: SystemTime,
    items: impl Iterator<Item = T>,
) -> Result<(), CacheError> {
    replace_cache(path, |file| {
        let mut out = BufWriter::new(file);
        let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        write!(out, "{{\"saved_at\":{seconds},\"from\":")?;
        serde_json::to_writer(&mut out, from)?;
        write!(out, ",\"{}\":[", T::LIST_KEY)?;
        for (i, item) in items.enumerate() {
            out.write_all(if i == 0 { b"\n" } else { b",\n" })?;
            serde_json::to_writer(&mut out, &item)?;
        }
        out.write_all(b"\n]}\n")?;
        out.flush()
    })
}

/// Replaces a cache by what `write` writes, or leaves it as it was. A file that is no cache is never replaced: its
/// path may come from another ICM, or be a mistake.
pub(super) fn replace_cache(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), CacheError> {
    atomic_file::check_replaceable(path, &FILE_SIGNATURES)
        .and_then(|()| atomic_file::replace(path, atomic_file::PRIVATE_FILE_MODE, write))
        .map_err(|source| CacheError::Io { path: path.to_owned(), source })
}

fn load<S, T>(path: &Path) -> Result<CachedList<T>, CacheError>
where
    S: StoredItem + TryInto<T>,
{
    let io = |source| CacheError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(io)?.is_dir() {
        return Err(io(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let file = BufReader::new(File::open(path).map_err(io)?);
    let mut json = serde_json::Deserializer::from_reader(file);
    let cached = (&mut json)
        .deserialize_map(CacheVisitor::<S, T>(std::marker::PhantomData))
        .and_then(|cached| json.end().map(|()| cached));
    cached.map_err(|error| {
        if error.is_io() {
            io(error.into())
        } else {
            CacheError::Content { path: path.to_owned(), reason: error.to_string() }
        }
    })
}

struct CacheVisitor<S, T>(std::marker::PhantomData<(S, T)>);

impl<'de, S: StoredItem + TryInto<T>, T> Visitor<'de> for CacheVisitor<S, T> {
    type Value = CachedList<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with `{}`", S::LIST_KEY)
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<CachedList<T>, M::Error> {
        let mut cached =
            CachedList { items: Vec::new(), from: String::new(), saved_at: UNIX_EPOCH, skipped: 0 };
        let mut found = false;
        while let Some(key) = map.next_key::<String>()? {
            match key.as_str() {
                "saved_at" => {
                    let seconds = Duration::from_secs(map.next_value()?);
                    cached.saved_at = UNIX_EPOCH.checked_add(seconds).unwrap_or(UNIX_EPOCH);
                }
                "from" => cached.from = map.next_value()?,
                key if key == S::LIST_KEY => {
                    found = true;
                    map.next_value_seed(ItemsSeed::<S, T>(&mut cached, std::marker::PhantomData))?;
                }
                _ => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if found { Ok(cached) } else { Err(M::Error::custom(format!("it has no `{}`", S::LIST_KEY))) }
    }
}

struct ItemsSeed<'a, S, T>(&'a mut CachedList<T>, std::marker::PhantomData<S>);

impl<'de, S: StoredItem + TryInto<T>, T> serde::de::DeserializeSeed<'de> for ItemsSeed<'_, S, T> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_seq(self)
    }
}

impl<'de, S: StoredItem + TryInto<T>, T> Visitor<'de> for ItemsSeed<'_, S, T> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<L: SeqAccess<'de>>(self, mut list: L) -> Result<(), L::Error> {
        while let Some(item) = list.next_element::<IfValid<S>>()? {
            let IfValid(item) = item;
            match item.and_then(|item| item.try_into().ok()) {
                Some(item) => self.0.items.push(item),
                None => self.0.skipped += 1,
            }
        }
        Ok(())
    }
}

/// `None` for valid JSON that is something else: one odd item must not cost the whole cache.
struct IfValid<S>(Option<S>);

impl<'de, S: StoredItem> Deserialize<'de> for IfValid<S> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(from)?;
        Ok(Self(serde_json::from_value(value).ok()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn member() -> Server {
        let port = |port| Some(HostPort { host: "10.0.0.11".to_owned(), port });
        let name = ServerName::parse("Web1/Acme").unwrap();
        crate::discovery::servers::member(name, "web1.acme.example".into(), port(80), port(443))
    }

    #[test]
    fn members_come_back_with_both_ports_and_only_the_owner_may_read_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.json");
        let at = UNIX_EPOCH + Duration::from_secs(1_795_162_500);
        save_servers(&path, "10.0.0.11:80", at, &[member()]).unwrap();
        save_servers(&path, "10.0.0.11:80", at, &[member()]).unwrap();
        let cached = load_servers(&path).unwrap();
        let items = vec![member()];
        assert_eq!(cached, CachedList { items, from: "10.0.0.11:80".into(), saved_at: at, skipped: 0 });
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn one_odd_item_is_skipped_and_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        fs::write(
            &path,
            r#"{"new":[1,{}],"members":[5,{"name":"Web1/Acme"},{"name":"Web1/Acme","hostname":"web1.acme.example",
            "http":{"host":"10.0.0.11","port":80},"https":{"host":"10.0.0.11","port":443}}]}"#,
        )
        .unwrap();
        let cached = load_servers(&path).unwrap();
        assert_eq!((cached.items, cached.skipped, cached.saved_at), (vec![member()], 2, UNIX_EPOCH));
    }

    #[test]
    fn broken_files_say_which_file_and_where() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        assert!(load_servers(&path).unwrap_err().is_absent());
        for broken in
            ["", "[]", "{\"members\":[{\"name\":", "{\"members\":{}}", "\u{0}", "{\"databases\":[]}"]
        {
            fs::write(&path, broken).unwrap();
            let error = load_servers(&path).unwrap_err();
            assert!(!error.is_absent() && error.to_string().contains("c.json"), "{error}");
        }
        assert!(load_servers(folder.path()).is_err());
        let error = save_servers(&folder.path().join("no/c.json"), "", UNIX_EPOCH, &[]).unwrap_err();
        assert!(error.is_absent() && error.to_string().contains("no/c.json"), "{error}");
    }
}
