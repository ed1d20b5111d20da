//! `defaults NAME from OTHER` of HAProxy: what such a section inherits. It is separate, because all else sees the sections as
//! if each had everything itself.

use super::super::directive::Directive;
use super::super::report::ImportReport;

/// The directives of each `defaults` section, in their order, with those that it inherits before its own.
pub(super) fn resolve(directives: &[Directive], report: &mut ImportReport) -> Vec<Vec<Directive>> {
    let mut names: Vec<&str> = Vec::new();
    let mut resolved: Vec<Vec<Directive>> = Vec::new();
    for d in directives.iter().filter(|d| d.name == "defaults") {
        let from = d.args.iter().position(|arg| arg == "from");
        let name = from.and_then(|at| d.args.get(at + 1));
        let parent = name.and_then(|name| names.iter().position(|known| known == name));
        let mut all: Vec<Directive> = Vec::new();
        for inherited in parent.and_then(|at| resolved.get(at)).into_iter().flatten() {
            if d.body().iter().any(|own| replaces(own, inherited)) {
                report.overridden(inherited);
            } else {
                all.push(inherited.clone());
            }
        }
        all.extend_from_slice(d.body());
        // A section without a name of its own cannot be inherited.
        names.push(if from == Some(0) { "" } else { d.arg(0) });
        resolved.push(all);
    }
    resolved
}

/// Rules and the parameters of servers add up; of all else the last one counts.
fn replaces(own: &Directive, inherited: &Directive) -> bool {
    let adds_up = own.name.starts_with("http-") || own.name.starts_with("tcp-");
    match &*own.name {
        "acl" | "default-server" | "errorfile" | "log" | "email-alert" => false,
        _ if adds_up => false,
        "timeout" | "option" | "no" | "stats" => own.name == inherited.name && own.arg(0) == inherited.arg(0),
        _ => own.name == inherited.name,
    }
}
