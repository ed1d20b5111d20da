//! The container image: built by `conf/container/build.sh` from the executables of this test, loaded from its archive, and run
//! as in production: not as root, without any capability, on a root file system that cannot be written.
//!
//! `/etc/icm` is laid out as Kubernetes does it. Skipped with a message where Podman is missing or may not start containers.

use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use crate::support::*;
use serde_yaml::Value;

/// The user and the group in the image.
const USER: u32 = 65532;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// What Podman answers if the container could not be started at all, whatever is in it.
const CANNOT_START: i32 = 125;

/// Podman with images, containers and settings of its own; nothing of the machine's is touched.
struct Podman {
    containers: std::cell::RefCell<Vec<String>>,
    dir: tempfile::TempDir,
}

impl Podman {
    fn new() -> Result<Podman, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root can do this".to_owned());
        }
        for program in ["podman", "runc"] {
            let there = Command::new(program).arg("--version").stdout(Stdio::null()).status();
            there.map_err(|e| format!("{program} is missing ({e})"))?;
        }
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().display();
        // Copies of files need nothing from the kernel, and one lock for each file nothing from /dev/shm.
        let storage =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{at}/root\"\nrunroot = \"{at}/run\"\n");
        let engine = format!(
            "[engine]\nruntime = \"runc\"\ncgroup_manager = \"cgroupfs\"\nevents_logger = \"none\"\nlock_type = \"file\"
tmp_dir = \"{at}/tmp\"\nvolume_path = \"{at}/volumes\"\n[network]\nnetwork_config_dir = \"{at}/networks\"\n"
        );
        std::fs::write(dir.path().join("storage.conf"), storage).unwrap();
        std::fs::write(dir.path().join("containers.conf"), engine).unwrap();
        Ok(Podman { containers: Default::default(), dir })
    }

    /// A program that may call Podman, with a limit of time.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new("timeout");
        command.args(["120", name]).stdin(Stdio::null());
        command.env("CONTAINERS_STORAGE_CONF", self.dir.path().join("storage.conf"));
        command.env("CONTAINERS_CONF", self.dir.path().join("containers.conf"));
        // Checks run when the test asks for them, not by timers of systemd.
        command.env("DISABLE_HC_SYSTEMD", "true");
        command
    }

    fn call(&self, arguments: &[&str]) -> Output {
        self.program("podman").args(arguments).output().unwrap()
    }

    /// Standard output of a call that must succeed.
    fn run(&self, arguments: &[&str]) -> String {
        let output = self.call(arguments);
        assert!(output.status.success(), "podman {}: {}", arguments.join(" "), error_of(&output));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Builds both images into archives, and loads these.
    fn build_and_load(&self) {
        let stripped = |name: &str, built: &str| {
            let to = self.dir.path().join(name);
            let strip = Command::new("strip").args(["--strip-debug", "-o"]).arg(&to).arg(built).status();
            assert!(strip.unwrap().success());
            to
        };
        let out = self.dir.path().join("packages");
        let mut build = self.program(concat!(env!("CARGO_MANIFEST_DIR"), "/conf/container/build.sh"));
        build.env("ICM", stripped("icm", env!("CARGO_BIN_EXE_icm")));
        build.env("ACME", stripped("acme", env!("CARGO_BIN_EXE_acme")));
        build.env("OUT", &out).env("CONTEXT", self.dir.path().join("context"));
        build.env("BUILDER", "podman").env("REPOSITORY", "localhost/tested");
        let output = build.output().unwrap();
        assert!(output.status.success(), "{}", error_of(&output));
        self.run(&["rmi", "--all", "--force"]);
        for archive in std::fs::read_dir(&out).unwrap() {
            self.run(&["load", "--input", &archive.unwrap().path().display().to_string()]);
        }
    }

    /// Arguments for a container that may do nothing but serve on the network of this machine.
    fn restrictions() -> Vec<String> {
        use nix::sys::resource::{Resource, getrlimit};
        let (_, files) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let limits = format!(
            "--network=host --read-only --read-only-tmpfs=false --cap-drop=all
            --security-opt=no-new-privileges --ulimit=nofile={files}:{files} --ulimit=nproc=4000:4000"
        );
        limits.split_whitespace().map(str::to_owned).collect()
    }

    fn start(&self, name: &str, more: &[&str]) {
        self.containers.borrow_mut().push(name.to_owned());
        let restrictions = Podman::restrictions();
        let mut arguments = vec!["run", "--detach", "--name", name];
        arguments.extend(restrictions.iter().map(String::as_str));
        arguments.extend(more);
        self.run(&arguments);
    }

    fn inspect(&self, name: &str, format: &str) -> String {
        self.run(&["inspect", "--format", format, name])
    }

    fn log(&self, name: &str) -> String {
        let output = self.call(&["logs", name]);
        String::from_utf8_lossy(&output.stdout).into_owned() + &error_of(&output)
    }

    /// Runs the health check of the image once: `Some(true)` is healthy, `None` is no verdict.
    fn is_healthy(&self, name: &str) -> Option<bool> {
        match self.call(&["healthcheck", "run", name]).status.code() {
            Some(0) => Some(true),
            Some(1) => Some(false),
            _ => None,
        }
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        for name in self.containers.borrow().iter() {
            if std::thread::panicking() {
                eprintln!("--- log of {name} ---\n{}", self.log(name));
            }
            self.call(&["rm", "--force", "--time", "0", "--volumes", name]);
        }
    }
}

fn error_of(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// `/etc/icm` as the kubelet makes it: links to a folder behind the link `..data`, files for the group of the container.
struct Etc {
    folder: PathBuf,
    versions: u32,
}

impl Etc {
    fn new(folder: PathBuf) -> Etc {
        std::fs::create_dir(&folder).unwrap();
        Etc { folder, versions: 0 }
    }

    /// Replaces all files at once.
    fn write(&mut self, files: &[(&str, &str)]) {
        self.versions += 1;
        let version = format!("..{}", self.versions);
        let data = self.folder.join(&version);
        std::fs::create_dir(&data).unwrap();
        for (name, text) in files {
            let file = data.join(name);
            std::fs::write(&file, text).unwrap();
            chown(&file, Some(0), Some(USER)).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o440)).unwrap();
            if self.versions == 1 {
                symlink(Path::new("..data").join(name), self.folder.join(name)).unwrap();
            }
        }
        let new = self.folder.join("..new");
        symlink(&version, &new).unwrap();
        std::fs::rename(new, self.folder.join("..data")).unwrap();
    }
}

/// A configuration for the container; the servers are those of this cluster.
fn config_in_container(acme: &Acme) -> Value {
    let mut config = config(acme);
    set(&mut config, "admin.token_file", "/etc/icm/token");
    set(&mut config, "state_dir", "/var/lib/icm");
    set(&mut config, "pingora.grace_period_seconds", "60");
    set(&mut config, "clusters.0.upstream_tls.ca_file", "/etc/icm/ca.pem");
    set(&mut config, "clusters.0.directory.cache", "/var/lib/icm/acmeweb.json");
    set(&mut config, "clusters.0.affinity", "{ secret_file: /etc/icm/affinity.key }");
    config
}

/// The same before its servers exist: nothing answers at their addresses.
fn without_servers(config: &Value) -> Value {
    let mut config = config.clone();
    let servers = config["clusters"][0]["servers"]["list"].as_sequence().unwrap().len();
    for n in 0..servers {
        for port in ["http", "https"] {
            set(
                &mut config,
                &format!("clusters.0.servers.list.{n}.{port}"),
                &format!("127.0.0.1:{}", free_port()),
            );
        }
    }
    config
}

#[test]
fn the_image_serves_is_checked_reloads_and_drains_without_any_right() {
    let podman = match Podman::new() {
        Ok(podman) => podman,
        Err(why) => return eprintln!("skipped, the container image: {why}"),
    };
    podman.build_and_load();
    let version = env!("CARGO_PKG_VERSION");
    let (image, acme_image) =
        (format!("localhost/tested:{version}"), format!("localhost/tested-acme:{version}"));

    // The other image, and whether containers can run here.
    let restrictions = Podman::restrictions();
    let mut arguments = vec!["run", "--rm"];
    arguments.extend(restrictions.iter().map(String::as_str));
    let printed = podman.call(&[&arguments[..], &[&*acme_image, "--print-scenario"]].concat());
    if printed.status.code() == Some(CANNOT_START) {
        return eprintln!(
            "skipped, the container image was built, but no container can run: {}",
            error_of(&printed)
        );
    }
    assert!(String::from_utf8_lossy(&printed.stdout).contains("Web4/Acme"), "{}", error_of(&printed));
    assert_eq!(
        podman.inspect(&image, "{{.User}} {{index .Labels \"org.opencontainers.image.version\"}}"),
        format!("65532:65532 {version}")
    );

    // It starts although no server answers, and is not healthy then.
    let acme = Acme::built_in();
    let config = config_in_container(&acme);
    let address = |value: &Value| value.as_str().unwrap().parse::<std::net::SocketAddr>().unwrap();
    let (listener, admin) =
        (address(&config["listeners"][0]["address"]), address(&config["admin"]["address"]));
    let authority = std::fs::read_to_string(&acme.ca_file).unwrap();
    let files = |config: &Value| {
        let text = serde_yaml::to_string(config).unwrap();
        [
            ("icm.yaml", text),
            ("ca.pem", authority.clone()),
            ("token", TOKEN.to_owned()),
            ("affinity.key", TOKEN.repeat(2)),
        ]
    };
    let mut etc = Etc::new(podman.dir.path().join("etc"));
    let mut write = |config: &Value| {
        let files = files(config);
        etc.write(&files.each_ref().map(|(name, text)| (*name, text.as_str())));
        etc.folder.display().to_string()
    };
    let folder = write(&without_servers(&config));
    podman.start(
        "icm",
        &["--volume", &format!("{folder}:/etc/icm:ro"), "--volume", "icm-state:/var/lib/icm", &image],
    );
    wait_for(admin);
    assert!(
        eventually(MAX_WAIT, || podman.is_healthy("icm") == Some(false)),
        "it is healthy without servers"
    );

    // HUP applies another configuration; then it is healthy and serves.
    write(&config);
    podman.run(&["kill", "--signal", "HUP", "icm"]);
    assert!(eventually(MAX_WAIT, || podman.is_healthy("icm") == Some(true)), "it does not become healthy");
    let answer = Client::to(wait_for(listener)).get("/legacy/archive2009.nsf");
    assert_eq!(answer.header("x-acme-server"), Some("Web4/Acme"), "{}", answer.text());
    assert!(
        answer.header("set-cookie").is_some_and(|cookie| cookie.starts_with("ICM=")),
        "{}",
        answer.text()
    );
    let shown = podman.run(&["exec", "icm", "icm", "show", "cluster", "-c", "/etc/icm/icm.yaml"]);
    assert!(shown.contains("Web4/Acme"), "{shown}");
    podman.run(&["exec", "icm", "icm", "restrict", "Web2", "-c", "/etc/icm/icm.yaml"]);

    // It has no right, and writes nowhere but into its volume.
    let pid = podman.inspect("icm", "{{.State.Pid}}");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let field =
        |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_eq!(field("Uid:").split_whitespace().collect::<Vec<_>>(), ["65532"; 4]);
    for rights in ["CapEff:", "CapPrm:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(rights), "0000000000000000", "{rights}");
    }
    assert_eq!(field("NoNewPrivs:"), "1");
    let volume = podman.run(&["volume", "inspect", "--format", "{{.Mountpoint}}", "icm-state"]);
    let state = || std::fs::read_dir(&volume).unwrap().count();
    assert!(eventually(MAX_WAIT, || state() > 1), "the volume has neither the restriction nor the cache");
    // Podman itself mounts `/etc/hosts` and others.
    assert_eq!(podman.run(&["diff", "icm"]), "C /etc", "written outside the volume");

    // TERM, which `podman stop` sends: the request in flight is answered, then the process ends by itself.
    let request = std::thread::spawn(move || {
        Client::to(listener).get("/legacy/archive2009.nsf?OpenDatabase&delay=3000")
    });
    let in_flight = || acme.ask("GET", "/connections", None).to_string().contains("\"in_flight\":1");
    assert!(eventually(MAX_WAIT, in_flight), "{}", acme.ask("GET", "/connections", None));
    podman.run(&["stop", "--time", "90", "icm"]);
    let answer = request.join().unwrap();
    assert_eq!((answer.status, answer.header("x-acme-server")), (200, Some("Web4/Acme")));
    assert_eq!(podman.inspect("icm", "{{.State.ExitCode}}"), "0", "{}", podman.log("icm"));
    assert!(podman.log("icm").contains("drained"), "{}", podman.log("icm"));
    let refused = || std::net::TcpStream::connect_timeout(&listener, Duration::from_secs(1)).is_err();
    assert!(eventually(MAX_WAIT, refused), "something still listens on {listener}");
}
