//! Saves and loads the last good list of servers, so that a start does not depend on the Server documents.
//!
//! The file is JSON without passwords. It is replaced by a rename, and only its owner may read it. The functions block.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::config::settings::Server;
use crate::discovery::servers::server_with_defaults;
use crate::domain::cluster::{HostPort, ServerName, SiteName};
use crate::util::atomic_file;

/// How cache files begin: a list of servers (or databases, in old versions), and a directory.
const FILE_SIGNATURES: [&str; 2] = ["{\"saved_at\":", "{\"icm_directory\":"];

/// Why a cache file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    #[error("cache {path}: {source}")]
    Io { path: PathBuf, source: io::Error },
    /// The content is not a cache, or not of this kind.
    #[error("cache {path} is not usable: {reason}")]
    Content { path: PathBuf, reason: String },
}

impl CacheError {
    /// True if there is no file yet.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}

#[derive(Serialize, Deserialize)]
struct ServerList<T> {
    /// In seconds since 1970.
    #[serde(default)]
    saved_at: u64,
    #[serde(default)]
    from: String,
    members: Vec<T>,
}

#[derive(Serialize, Deserialize)]
struct StoredServer {
    name: String,
    hostname: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    http: Option<StoredPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    https: Option<StoredPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    site: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct StoredPort {
    host: String,
    port: u16,
}

impl From<&Server> for StoredServer {
    fn from(server: &Server) -> Self {
        let port = |at: &HostPort| StoredPort { host: at.host.clone(), port: at.port };
        Self {
            name: server.name.abbreviated().to_owned(),
            hostname: server.hostname.clone(),
            http: server.http.as_ref().map(port),
            https: server.https.as_ref().map(port),
            site: server.site.as_ref().map(ToString::to_string),
        }
    }
}

impl StoredServer {
    fn into_server(self) -> Option<Server> {
        let port = |at: StoredPort| {
            (at.port != 0 && !at.host.is_empty()).then_some(HostPort { host: at.host, port: at.port })
        };
        let name = ServerName::parse(&self.name).ok()?;
        let (http, https) = (self.http.and_then(port), self.https.and_then(port));
        let usable = !self.hostname.is_empty() && (http.is_some() || https.is_some());
        let site = self.site.and_then(|site| SiteName::new(&site));
        usable.then(|| Server { site, ..server_with_defaults(name, self.hostname, http, https) })
    }
}

/// # Errors
/// When the file cannot be written; the old one is then unchanged.
pub fn save_servers(path: &Path, from: &str, at: SystemTime, servers: &[Server]) -> Result<(), CacheError> {
    let list = ServerList {
        saved_at: at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
        from: from.to_owned(),
        members: servers.iter().map(StoredServer::from).collect(),
    };
    replace_cache(path, |file| {
        let mut out = BufWriter::new(file);
        serde_json::to_writer(&mut out, &list)?;
        out.write_all(b"\n")?;
        out.flush()
    })
}

/// Replaces a cache by what `write` writes, or leaves it unchanged. A file that is not a cache is never replaced: the
/// path may come from another ICM or be a mistake.
pub(super) fn replace_cache(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> Result<(), CacheError> {
    atomic_file::check_replaceable(path, &FILE_SIGNATURES)
        .and_then(|()| atomic_file::replace(path, atomic_file::PRIVATE_FILE_MODE, write))
        .map_err(|source| CacheError::Io { path: path.to_owned(), source })
}

/// Loads the servers of a cache; invalid ones are skipped.
///
/// # Errors
/// When there is no such file, or it is not a list of servers.
pub fn load_servers(path: &Path) -> Result<Vec<Server>, CacheError> {
    let io = |source| CacheError::Io { path: path.to_owned(), source };
    if fs::metadata(path).map_err(io)?.is_dir() {
        return Err(io(io::Error::from(io::ErrorKind::IsADirectory)));
    }
    let file = BufReader::new(File::open(path).map_err(io)?);
    let list: ServerList<serde_json::Value> = serde_json::from_reader(file).map_err(|error| {
        if error.is_io() {
            io(error.into())
        } else {
            CacheError::Content { path: path.to_owned(), reason: error.to_string() }
        }
    })?;
    let valid = |item| serde_json::from_value::<StoredServer>(item).ok().and_then(StoredServer::into_server);
    Ok(list.members.into_iter().filter_map(valid).collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    fn server() -> Server {
        let port = |port| Some(HostPort { host: "10.0.0.11".to_owned(), port });
        let name = ServerName::parse("Web1/Acme").unwrap();
        server_with_defaults(name, "web1.acme.example".into(), port(80), port(443))
    }

    #[test]
    fn servers_are_loaded_with_both_ports_and_only_the_owner_may_read_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("members.json");
        let at = UNIX_EPOCH + Duration::from_secs(1_795_162_500);
        save_servers(&path, "10.0.0.11:80", at, &[server()]).unwrap();
        save_servers(&path, "10.0.0.11:80", at, &[server()]).unwrap();
        assert_eq!(load_servers(&path).unwrap(), [server()]);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("{\"saved_at\":1795162500,\"from\":\"10.0.0.11:80\","), "{text}");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
    }

    #[test]
    fn invalid_servers_are_skipped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("c.json");
        fs::write(
            &path,
            r#"{"new":[1,{}],"members":[5,{"name":"Web1/Acme"},{"name":"Web1/Acme","hostname":"web1.acme.example",
            "http":{"host":"10.0.0.11","port":80},"https":{"host":"10.0.0.11","port":443}}]}"#,
        )
        .unwrap();
        assert_eq!(load_servers(&path).unwrap(), [server()]);
    }

    #[test]
    fn errors_name_the_file() {
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
