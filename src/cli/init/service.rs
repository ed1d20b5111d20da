//! The installed service, if `icm init` writes the file that it reads: its folders, and the group that must read the files.
//! Separate, because only a package or an administrator makes these folders, and elsewhere they do not belong into the file.

use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::Path;

/// What the unit in `conf/systemd/` and the packages use.
const CONFIG: &str = "/etc/icm/icm.yaml";
const STATE_DIR: &str = "/var/lib/icm";
const LOG_DIR: &str = "/var/log/icm";
const LINES: &str =
    "# The service: packages find the process by its pid file, to upgrade it without losing a request.
pingora: { pid_file: /run/icm/icm.pid }
access_log: { path: /var/log/icm/access.log, format: json }

";

/// The state directory of the service that reads this file, if it is installed.
pub(super) fn state_dir(output: &Path) -> Option<&'static str> {
    let is_installed = [STATE_DIR, LOG_DIR].iter().all(|dir| Path::new(dir).is_dir());
    (output == Path::new(CONFIG) && is_installed).then_some(STATE_DIR)
}

/// What to do if the user of the service cannot read a file that the configuration names; `None` if it can.
pub(super) fn unreadable_advice(file: &str) -> Option<String> {
    let (user, group) =
        (Path::new(STATE_DIR).metadata().ok()?.uid(), Path::new(CONFIG).parent()?.metadata().ok()?.gid());
    if may_read(Path::new(file), user, group) {
        return None;
    }
    let name = Path::new(file).file_name().map(|name| name.to_string_lossy()).unwrap_or_default();
    Some(format!(
        "{file}: the service cannot read it and would not start: `sudo install -m 640 -g icm {file} /etc/icm/{name}`, and name \
         that file in {CONFIG}"
    ))
}

/// Whether a user with this group may read the file and enter all folders above it.
fn may_read(file: &Path, user: u32, group: u32) -> bool {
    let may = |path: &Path, bit: u32| {
        path.metadata().is_ok_and(|metadata| {
            let shift = match (metadata.uid() == user, metadata.gid() == group) {
                (true, _) => 6,
                (_, true) => 3,
                _ => 0,
            };
            metadata.mode() >> shift & bit != 0
        })
    };
    may(file, 4) && file.ancestors().skip(1).all(|folder| may(folder, 1))
}

/// Adds the pid file and the access log to a rendered configuration.
pub(super) fn with_lines(text: &str) -> String {
    text.replacen("listeners:\n", &format!("{LINES}listeners:\n"), 1)
}

/// Gives a file the group of its folder and lets the group read it, because `/etc/icm` has the group of the service. Returns
/// whether it did: not in a folder of the caller's own group, nor without the right.
pub(super) fn share_with_group(file: &Path) -> bool {
    let group = |path: &Path| path.metadata().map(|metadata| metadata.gid()).ok();
    let Some(shared) = file.parent().and_then(group).filter(|shared| Some(*shared) != group(file)) else {
        return false;
    };
    chown(file, None, Some(shared)).is_ok()
        && std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o640)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_the_service_come_before_the_listeners_once() {
        let text = with_lines("# Written\n\nlisteners:\n  - address: 0.0.0.0:80\n# listeners:\n");
        assert!(text.starts_with("# Written\n\n# The service"), "{text}");
        assert_eq!(text.matches("pid_file").count(), 1);
        assert!(text.contains("json }\n\nlisteners:\n  - address"), "{text}");
    }

    #[test]
    fn another_file_than_that_of_the_service_gets_no_folders_of_it() {
        assert_eq!(state_dir(Path::new("/tmp/icm.yaml")), None);
        assert_eq!(with_lines("clusters: []\n"), "clusters: []\n");
    }

    #[test]
    fn a_file_is_readable_only_with_all_folders_above_it() {
        let dir = tempfile::tempdir_in("/tmp").unwrap();
        let (folder, file) = (dir.path().join("private"), dir.path().join("private/pw"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(&file, "secret").unwrap();
        let mode = |path: &Path, mode| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
        };
        let (nobody, group) = (65_534, file.metadata().unwrap().gid());
        mode(dir.path(), 0o755);
        mode(&folder, 0o750);
        mode(&file, 0o640);
        assert!(may_read(&file, nobody, group));
        assert!(!may_read(&file, nobody, 65_534));
        mode(&folder, 0o700);
        assert!(!may_read(&file, nobody, group));
    }

    #[test]
    fn a_file_in_a_folder_of_its_own_group_keeps_its_mode() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("icm.password");
        std::fs::write(&file, "secret").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(!share_with_group(&file));
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600);
    }
}
