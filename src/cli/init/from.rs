//! `icm init --from`: takes over a configuration of nginx or HAProxy. The translation is in `insight::import`; here are the
//! file that is written and the list that is printed.

use std::path::Path;
use std::process::ExitCode;

use serde_json::json;

use super::super::{EXIT_PROBLEM, EXIT_USAGE};
use super::InitArgs;
use crate::config::{self, ConfigErrors};
use crate::insight::import::{self, DiskTree, ImportFormat, ImportItem, ImportOutcome, ImportedConfig};
use crate::util::atomic_file;

/// It may name passwords that header fields of the other configuration had.
const MODE: u32 = 0o640;

/// # Errors
/// If the file cannot be written.
pub(super) fn run(arguments: &InitArgs, from: &Path) -> anyhow::Result<ExitCode> {
    let format = arguments.format.map(|format| match format {
        super::FromFormat::Nginx => ImportFormat::Nginx,
        super::FromFormat::Haproxy => ImportFormat::Haproxy,
    });
    let imported = match import::import(from, format, &DiskTree) {
        Ok(imported) => imported,
        Err(error) => {
            if arguments.json {
                println!("{:#}", json!({ "ok": false, "error": error.to_string() }));
            } else {
                eprintln!("{error}");
            }
            return Ok(ExitCode::from(EXIT_USAGE));
        }
    };
    let to_stdout = arguments.output.as_os_str() == "-";
    if to_stdout {
        if arguments.json {
            print_json(&imported, Some(&imported.yaml), None);
        } else {
            print!("{}", imported.yaml);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let output = &arguments.output;
    let same = |file: &Path| std::fs::canonicalize(file).ok();
    let problem = if same(output).is_some_and(|output| Some(output) == same(from)) {
        Some(format!("{} is the file of --from: write --output FILE", output.display()))
    } else if output.is_dir() {
        Some(format!("{} is a directory: name a file in it with --output", output.display()))
    } else if !atomic_file::parent(output).is_dir() {
        Some(format!("{} is no directory: create it first", atomic_file::parent(output).display()))
    } else if !arguments.force && output.symlink_metadata().is_ok() {
        Some(format!("{} exists: write --output FILE, or --force to replace it", output.display()))
    } else {
        None
    };
    if let Some(problem) = problem {
        if arguments.json {
            println!("{:#}", json!({ "ok": false, "error": problem }));
        } else {
            eprintln!("{problem}");
        }
        return Ok(ExitCode::from(EXIT_USAGE));
    }
    atomic_file::replace(output, MODE, |file| std::io::Write::write_all(file, imported.yaml.as_bytes()))
        .map_err(|error| anyhow::anyhow!("cannot write {}: {error}", output.display()))?;
    let errors = config::load(output).err();
    if arguments.json {
        print_json(&imported, None, errors.as_ref());
    } else {
        print_list(&imported, from, output, errors.as_ref());
    }
    Ok(if errors.is_some() { ExitCode::from(EXIT_PROBLEM) } else { ExitCode::SUCCESS })
}

fn print_json(imported: &ImportedConfig, yaml: Option<&str>, errors: Option<&ConfigErrors>) {
    let item = |item: &ImportItem| {
        json!({
            "file": item.file,
            "line": item.line,
            "directive": item.directive,
            "outcome": item.outcome.word(),
            "text": item.text,
            "instead": if item.instead.is_empty() { None } else { Some(&item.instead) },
        })
    };
    let items: Vec<_> = imported.items.iter().map(item).collect();
    let no_errors = || json!([]);
    let errors = errors.map_or_else(no_errors, |errors| json!(errors.to_json()));
    let mut answer = json!({
        "ok": errors.as_array().is_none_or(Vec::is_empty),
        "format": imported.format.word(),
        "items": items,
        "errors": errors,
    });
    if let (Some(yaml), Some(map)) = (yaml, answer.as_object_mut()) {
        map.insert("yaml".to_owned(), yaml.into());
    }
    println!("{answer:#}");
}

fn print_list(imported: &ImportedConfig, from: &Path, output: &Path, errors: Option<&ConfigErrors>) {
    let count = |outcome| imported.with_outcome(outcome).count();
    println!(
        "{} of {}: {} taken over, {} not needed, {} not possible",
        from.display(),
        imported.format.title(),
        count(ImportOutcome::Taken),
        count(ImportOutcome::NotNeeded),
        count(ImportOutcome::Cannot),
    );
    let cannot: Vec<&ImportItem> = imported.with_outcome(ImportOutcome::Cannot).collect();
    if !cannot.is_empty() {
        println!("\nnot possible, wholly or in part:");
    }
    for item in cannot {
        println!("  {}:{}: {}", item.file, item.line, item.directive);
        println!("      {}", item.text);
        if !item.instead.is_empty() {
            println!("      instead: {}", item.instead);
        }
    }
    println!("\n{} is written. Look for TODO in it: what only you know.", output.display());
    match errors {
        None => println!("Then: icm check --probe -c {}", output.display()),
        Some(errors) => println!("icm check finds, before it can start:\n\n{errors}"),
    }
}
