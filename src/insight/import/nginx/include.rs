//! Follows `include` of nginx: below the directory of the configuration only, without cycles, and not without end.

use std::path::{Path, PathBuf};

use super::super::directive::{Directive, ImportError, Numbering, shown_path};
use super::super::files::{ImportFiles, matching};
use super::super::report::ImportReport;
use super::parser;

/// nginx follows its own limit of open files; nobody nests includes deeper.
const MAX_DEPTH: usize = 8;
const MAX_FILES: usize = 200;

/// Reads the files of `include` directives.
pub(super) struct Includes<'a> {
    pub files: &'a dyn ImportFiles,
    /// The directory of the configuration.
    pub root: PathBuf,
    pub numbers: Numbering,
    read: usize,
}

impl<'a> Includes<'a> {
    pub fn new(path: &Path, files: &'a dyn ImportFiles) -> Self {
        let real = files.real_path(path).unwrap_or_else(|_| path.to_owned());
        let root = real.parent().map_or_else(PathBuf::new, Path::to_owned);
        Self { files, root, numbers: Numbering::default(), read: 0 }
    }

    /// The directives of a text, in which those of included files stand in place of the `include`.
    pub fn parse(
        &mut self,
        path: &Path,
        text: &str,
        report: &mut ImportReport,
    ) -> Result<Vec<Directive>, ImportError> {
        let real = self.files.real_path(path).unwrap_or_else(|_| path.to_owned());
        let shown = shown_path(&self.root, &real);
        let directives = parser::parse(&shown, text, &mut self.numbers)?;
        self.expand(directives, &mut vec![real], report)
    }

    fn expand(
        &mut self,
        directives: Vec<Directive>,
        open: &mut Vec<PathBuf>,
        report: &mut ImportReport,
    ) -> Result<Vec<Directive>, ImportError> {
        let mut expanded = Vec::new();
        for mut directive in directives {
            if directive.name == "include" && directive.block.is_none() {
                let included = self.include(&directive, open, report)?;
                expanded.push(directive);
                expanded.extend(included);
                continue;
            }
            if let Some(body) = directive.block.take() {
                directive.block = Some(self.expand(body, open, report)?);
            }
            expanded.push(directive);
        }
        Ok(expanded)
    }

    fn include(
        &mut self,
        directive: &Directive,
        open: &mut Vec<PathBuf>,
        report: &mut ImportReport,
    ) -> Result<Vec<Directive>, ImportError> {
        let pattern = self.pattern(directive.arg(0));
        let found = matching(self.files, &pattern);
        if found.is_empty() {
            report.cannot(directive, "there is no such file", "include it yourself, and repeat");
        }
        let mut directives = Vec::new();
        let mut read = 0;
        for path in found {
            match self.readable(&path, open) {
                Err(why) => {
                    report.cannot(directive, &why, "copy what is needed into the configuration, and repeat");
                }
                Ok((real, text)) => {
                    read += 1;
                    let shown = shown_path(&self.root, &path);
                    let inner = parser::parse(&shown, &text, &mut self.numbers)?;
                    open.push(real);
                    directives.extend(self.expand(inner, open, report)?);
                    open.pop();
                }
            }
        }
        if read > 0 {
            report.taken(directive, &format!("{read} files read"));
        }
        Ok(directives)
    }

    /// Absolute names count from the directory where nginx is installed, of which this may be a copy.
    fn pattern(&self, name: &str) -> PathBuf {
        let path = Path::new(name);
        if path.is_absolute() && !path.starts_with(&self.root) {
            for installed in
                ["/etc/nginx", "/usr/local/nginx/conf", "/usr/local/etc/nginx", "/opt/nginx/conf"]
            {
                if let Ok(rest) = path.strip_prefix(installed) {
                    return self.root.join(rest);
                }
            }
        }
        self.root.join(path)
    }

    fn readable(&mut self, path: &Path, open: &[PathBuf]) -> Result<(PathBuf, String), String> {
        let real = self.files.real_path(path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => "there is no such file".to_owned(),
            _ => error.to_string(),
        })?;
        if !real.starts_with(&self.root) {
            return Err(format!("{} is outside the directory of the configuration", real.display()));
        }
        if open.contains(&real) {
            return Err("it includes itself".to_owned());
        }
        if open.len() > MAX_DEPTH || self.read >= MAX_FILES {
            return Err("too many files are included".to_owned());
        }
        self.read += 1;
        let text = self.files.read(&real).map_err(|error| error.to_string())?;
        Ok((real, text))
    }
}
