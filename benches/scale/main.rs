//! A large directory in the real `icm`: the effect of reading and swapping it on requests, its memory, and the time of a
//! cold start.
//!
//! `make scale`. `benches/README.md` lists the environment variables. All traffic stays on the loopback; `icm` and the
//! load have one processor each.

#![allow(clippy::disallowed_methods, reason = "there is no runtime that these threads could block")]
#![allow(clippy::indexing_slicing, reason = "a bench may panic")]

mod catalogue;
mod domino;
mod load;
mod process;
mod report;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::{Duration, Instant};

use domino::SimulatedDomain;
use load::Load;
use process::Icm;
use report::{Part, Phase, Report};

pub(crate) type Failure = Box<dyn std::error::Error>;

/// Load without a reading of the directory, before the first one and after the last.
const QUIET_PERIOD: Duration = Duration::from_secs(8);
/// Time for threads and connections to start.
const WARM_UP: Duration = Duration::from_secs(2);
const MAX_WAIT: Duration = Duration::from_secs(150);

pub(crate) struct Settings {
    pub databases: u64,
    pub per_second: u64,
    pub readings: u64,
    pub starts: usize,
    pub cpus: (String, String),
    pub icm: String,
}

fn setting(name: &str, usual: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| usual.to_owned())
}

fn main() -> Result<(), Failure> {
    if std::env::args().any(|a| a == "--test") {
        return Ok(());
    }
    let settings = Settings {
        databases: setting("DATABASES", "1000000").parse()?,
        per_second: setting("PER_SECOND", "3000").parse()?,
        readings: setting("READINGS", "3").parse()?,
        starts: setting("STARTS", "5").parse()?,
        cpus: (setting("PROXY_CPU", "0"), setting("LOAD_CPU", "1")),
        icm: setting("ICM", env!("CARGO_BIN_EXE_icm")),
    };
    process::pin_to_cpus(&settings.cpus.1);
    let folder = tempfile::tempdir()?;
    let domain = Arc::new(SimulatedDomain::default());
    let servers = domino::start(&domain)?;
    let mut report = Report::new(&settings);
    let bench = Bench { settings: &settings, folder: folder.path(), domain: &domain, servers: &servers };
    bench.file(&mut report)?;
    bench.cldbdir(&mut report)?;
    bench.cold_start(&mut report)?;
    report.write(&settings)
}

struct Bench<'a> {
    settings: &'a Settings,
    folder: &'a Path,
    domain: &'a SimulatedDomain,
    servers: &'a [SocketAddr],
}

impl Bench<'_> {
    fn start(&self, directory: &str) -> Result<Icm, Failure> {
        Icm::start(self.settings, self.folder, self.servers, directory)
    }

    fn load(&self, icm: &Icm) -> Load {
        let load =
            Load::start(icm.listener, self.servers[0], self.settings.databases, self.settings.per_second);
        std::thread::sleep(WARM_UP);
        load
    }

    /// A CSV file that is read again at every HUP. Starts with one database, to measure the memory of everything else.
    fn file(&self, report: &mut Report) -> Result<(), Failure> {
        let csv = self.folder.join("databases.csv");
        let write = |databases: u64, edition: u64| -> Result<(), Failure> {
            use std::io::Write;
            let mut out = std::io::BufWriter::new(std::fs::File::create(&csv)?);
            writeln!(out, "path,server,replica_id,title")?;
            for number in 0..databases {
                for replica in 0..catalogue::REPLICAS_PER_DATABASE {
                    let (server, path) = catalogue::replica(number, replica, edition);
                    let server = catalogue::SERVERS[server];
                    let (id, title) = (catalogue::replica_id(number), catalogue::title(number));
                    writeln!(out, "{path},{server},{id:016X},{title}")?;
                }
            }
            out.flush()?;
            // Before the measurement starts.
            Ok(out.get_ref().sync_all()?)
        };
        let directory = format!("{{ source: file, file: {} }}", csv.display());
        write(1, 0)?;
        let icm = self.start(&directory)?;
        std::thread::sleep(Duration::from_secs(1));
        report.empty_kib = icm.memory().resident;
        drop(icm);

        write(self.settings.databases, 0)?;
        let icm = self.start(&directory)?;
        report.note_memory("file, loaded", icm.memory());
        let load = self.load(&icm);
        let mut phases = vec![Phase::quiet(Part::Before, QUIET_PERIOD)];
        for edition in 1..=self.settings.readings {
            write(self.settings.databases, edition)?;
            icm.reset_peak()?;
            let known = icm.directory_at()?;
            let begin = Instant::now();
            icm.reload()?;
            icm.wait("a reload", || Ok(icm.directory_at()? > known))?;
            phases.push(Phase { part: Part::During, from: begin, to: Instant::now() });
            report.note_memory(&format!("file, HUP {edition}"), icm.memory());
            std::thread::sleep(Duration::from_secs(2));
        }
        phases.push(Phase::quiet(Part::After, QUIET_PERIOD));
        report.note_memory("file, at rest", icm.memory());
        report.add("file", "CSV file, read again at HUP", &phases, &load.end());
        Ok(())
    }

    /// The Cluster Database Directory of a server, read page by page in its interval.
    fn cldbdir(&self, report: &mut Report) -> Result<(), Failure> {
        self.domain.publish(domino::directory(self.settings.databases, 0));
        let icm = self.start(&self.directory_of_a_server(2))?;
        icm.wait("the first reading", || Ok(icm.databases()? == self.settings.databases))?;
        report.note_memory("cldbdir, loaded", icm.memory());
        // No reading until the load has started.
        self.domain.withdraw();
        let load = self.load(&icm);
        let mut phases = vec![Phase::quiet(Part::Before, QUIET_PERIOD)];
        for edition in 1..=self.settings.readings {
            self.domain.withdraw();
            let pages = domino::directory(self.settings.databases, edition);
            icm.reset_peak()?;
            let (known, read) = (icm.directory_at()?, self.domain.read.load(SeqCst));
            self.domain.publish(pages);
            icm.wait("a page", || Ok(self.domain.read.load(SeqCst) > read))?;
            let begin = Instant::now();
            icm.wait("a reading", || Ok(icm.directory_at()? > known))?;
            phases.push(Phase { part: Part::During, from: begin, to: Instant::now() });
            report.note_memory(&format!("cldbdir, reading {edition}"), icm.memory());
        }
        self.domain.withdraw();
        std::thread::sleep(Duration::from_secs(2));
        phases.push(Phase::quiet(Part::After, QUIET_PERIOD));
        report.note_memory("cldbdir, at rest", icm.memory());
        report.add(
            "cldbdir",
            "Cluster Database Directory of a server, by its interval",
            &phases,
            &load.end(),
        );
        Ok(())
    }

    /// Starts from the copy of the last reading, with a source that answers 503, and measures the time to the first
    /// response from a server that holds the database.
    fn cold_start(&self, report: &mut Report) -> Result<(), Failure> {
        for round in 0..self.settings.starts {
            let begin = Instant::now();
            let icm = self.start_without_waiting(&self.directory_of_a_server(60))?;
            let database = catalogue::shuffle(round as u64) % self.settings.databases;
            let mut connection = None;
            let server = loop {
                match load::exchange(icm.listener, &mut connection, database) {
                    Ok(server) => break server,
                    Err(error) if begin.elapsed() > MAX_WAIT => return Err(error),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
                connection = None;
            };
            let took = begin.elapsed();
            if !load::holds(&server, database) || icm.databases()? != self.settings.databases {
                return Err(
                    format!("served by {server}, which does not hold it, or not from the copy").into()
                );
            }
            report.starts.push(took);
        }
        Ok(())
    }

    fn start_without_waiting(&self, directory: &str) -> Result<Icm, Failure> {
        Icm::spawn(self.settings, self.folder, self.servers, directory)
    }

    fn directory_of_a_server(&self, seconds: u64) -> String {
        let cache = self.folder.join("scale.json");
        format!(
            "{{ source: cldbdir, columns: {{ title: 2 }}, refresh: {seconds}s, cache: {} }}",
            cache.display()
        )
    }
}
