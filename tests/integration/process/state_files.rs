//! Files that `icm` writes: whole after a crash, with the right mode, and no obstacle to a start when they are damaged.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use crate::support::*;
use serde_yaml::Value;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap_or_else(|e| panic!("{}: {e}", path.display())).permissions().mode() & 0o777
}

/// A configuration that keeps its state there.
fn keeping(acme: &Acme, state: &Path) -> Value {
    let mut config = config(acme);
    set(&mut config, "state_dir", &state.display().to_string());
    config
}

fn restrict(icm: &Icm, server: &str) {
    let output = icm_cli(&["restrict", server, "--yes", "-c", icm.file.to_str().unwrap()]);
    assert_eq!(output.code, 0, "{output:?}");
}

fn events(icm: &Icm) -> String {
    icm.status()["events"].to_string()
}

#[test]
fn damaged_restrictions_do_not_keep_it_from_starting_and_stay_in_force() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let icm = Icm::start(keeping(&acme, dir.path()));
    restrict(&icm, "Web1");
    restrict(&icm, "Web2");
    drop(icm);
    let file = dir.path().join("restrictions.json");
    let whole = std::fs::read(&file).unwrap();
    for damaged in [&b""[..], &whole[..whole.len() / 2], b"\0\0\0\0", b"{\"a\": 1}"] {
        std::fs::write(&file, damaged).unwrap();
        let icm = Icm::start(keeping(&acme, dir.path()));
        assert_eq!((icm.state_of("Web1"), icm.state_of("Web2")), ("RESTRICTED".into(), "RESTRICTED".into()));
        assert!(
            events(&icm).contains("is damaged") && events(&icm).contains("\"restrictions\""),
            "{}",
            events(&icm)
        );
        assert!(icm.log().contains("ERROR") && icm.log().contains("is damaged"), "{}", icm.log());
        assert_eq!(std::fs::read(dir.path().join("restrictions.json.damaged")).unwrap(), damaged);
        assert_eq!(std::fs::read(&file).unwrap(), whole, "it is mended");
    }
    // What was released since is not restricted again by an older copy.
    let icm = Icm::start(keeping(&acme, dir.path()));
    let output = icm_cli(&["release", "Web2", "-c", icm.file.to_str().unwrap()]);
    assert_eq!(output.code, 0, "{output:?}");
    drop(icm);
    std::fs::write(&file, "[").unwrap();
    let icm = Icm::start(keeping(&acme, dir.path()));
    assert_eq!(icm.state_of("Web1"), "RESTRICTED");
    assert!(eventually(MAX_WAIT, || icm.state_of("Web2") == "AVAILABLE"));
    drop(icm);
    // Nothing good is left: it starts all the same, and says what it lost.
    std::fs::write(&file, "[").unwrap();
    std::fs::remove_file(dir.path().join("restrictions.json.copy")).unwrap();
    let icm = Icm::start(keeping(&acme, dir.path()));
    assert!(events(&icm).contains("NO SERVER IS RESTRICTED"), "{}", events(&icm));
}

#[test]
fn an_empty_generated_key_is_made_anew_and_one_that_others_may_read_is_refused() {
    let (acme, dir) = (Acme::built_in(), tempfile::tempdir().unwrap());
    let key = dir.path().join("affinity.key");
    std::fs::write(&key, "").unwrap();
    let icm = Icm::start(keeping(&acme, dir.path()));
    assert!(icm.log().contains("affinity.key is empty"), "{}", icm.log());
    let made = std::fs::read(&key).unwrap();
    assert_eq!((made.len(), mode(&key)), (32, 0o600));
    let user = {
        let mut user = Browser::new(icm.address);
        user.get("/homepage.nsf");
        user
    };
    drop(icm);
    for (mode, starts) in [(0o640, true), (0o644, false), (0o666, false), (0o600, true)] {
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
        let mut icm = Icm::spawn(keeping(&acme, dir.path()));
        if starts {
            let icm = icm.listening();
            let mut again = Browser::new(icm.address).with_cookies_of(&user);
            again.get("/homepage.nsf");
            assert_eq!(again.icm(), user.icm(), "the key is the same");
        } else {
            assert_eq!(
                icm.wait_for_end(Duration::from_secs(30)).and_then(|s| s.code()),
                Some(64),
                "{mode:o}"
            );
            // As other secrets, already when the file is checked.
            let output = icm_cli(&["check", "-c", icm.file.to_str().unwrap()]);
            assert!(output.code == 64 && output.err.contains("state_dir"), "{output:?}");
            let says = || icm.log().contains("chmod o-rwx") && icm.log().contains("affinity.key");
            assert!(eventually(MAX_WAIT, says), "{}", icm.log());
        }
    }
    assert_eq!(std::fs::read(&key).unwrap(), made);
}

#[test]
fn every_file_has_its_mode_whatever_the_umask() {
    let acme = Acme::built_in();
    for umask in ["000", "077"] {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("lib/icm");
        let program = dir.path().join("icm");
        write_script(&program, &format!("umask {umask}\nexec {} \"$@\"", env!("CARGO_BIN_EXE_icm")));
        let mut config = keeping(&acme, &state);
        let (log, cache) = (dir.path().join("access.log"), state.join("acmeweb.cache"));
        set(&mut config, "access_log", &format!("{{ path: {} }}", log.display()));
        set(&mut config, "clusters.0.directory.cache", &cache.display().to_string());
        let icm = Icm::spawn_program(&program, config, &[]).listening();
        restrict(&icm, "Web1");
        assert!(eventually(MAX_WAIT, || cache.exists()), "{}", icm.log());
        let pid = icm.dir.path().join("icm.pid");
        for (path, wanted) in [
            (state.join("restrictions.json"), 0o600),
            (state.join("restrictions.json.copy"), 0o600),
            (state.join("affinity.key"), 0o600),
            (state.clone(), 0o750),
            (cache, 0o600),
            (log.clone(), 0o640),
            (pid, 0o644),
        ] {
            assert_eq!(mode(&path), wanted, "{} with umask {umask}", path.display());
        }
        // A log file that exists already keeps its mode.
        std::fs::remove_file(&log).unwrap();
        std::fs::write(&log, "").unwrap();
        std::fs::set_permissions(&log, std::fs::Permissions::from_mode(0o604)).unwrap();
        icm.signal("USR1");
        let logged = || {
            icm.client().get("/homepage.nsf");
            std::fs::metadata(&log).unwrap().len() > 0
        };
        assert!(eventually(MAX_WAIT, logged));
        assert_eq!(mode(&log), 0o604);
    }
}
