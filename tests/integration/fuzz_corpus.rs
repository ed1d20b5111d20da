//! Replays every file of the fuzz targets' corpora. `tests/fuzz/README.md` tells how to fuzz further.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

#[path = "../fuzz/src/targets.rs"]
mod targets;

fn corpus() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus")
}

#[test]
fn every_target_takes_every_file_of_its_corpus() {
    for (name, target) in targets::ALL {
        let mut files: Vec<_> =
            fs::read_dir(corpus().join(name)).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        assert!(files.len() >= 5, "the corpus of {name} has {} files", files.len());
        for file in files {
            let data = fs::read(&file).unwrap();
            assert!(data.len() < 100_000, "{} is too large to be kept here", file.display());
            if std::panic::catch_unwind(|| target(&data)).is_err() {
                panic!("{name} does not take {}", file.display());
            }
        }
    }
}

#[test]
fn no_target_and_no_corpus_is_forgotten() {
    let names = |dir: &Path| -> BTreeSet<String> {
        fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect()
    };
    let known: BTreeSet<String> = targets::ALL.iter().map(|(name, _)| (*name).to_owned()).collect();
    assert_eq!(names(&corpus()), known);
    assert_eq!(names(&corpus().join("../fuzz_targets")), known);
}
