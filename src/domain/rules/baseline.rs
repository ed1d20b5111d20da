//! The preset `domino_baseline`: what nobody outside needs of a Domino server. It is a list of databases and commands with
//! the few exceptions that logins need, and is apart from rules that shops write themselves.
//!
//! Databases: those for which scanners ask every Domino server (Nmap's `http-enum`,
//! <https://github.com/nmap/nmap/blob/master/nselib/data/http-fingerprints.lua>), as far as they serve administration,
//! and the newer ones of their kind. The Domino Directory has password hashes in its Person documents
//! (<https://help.hcltechsw.com/domino/9.0.1/admin/admin/conf_securinginternetpasswords_t.html>) and ID files as
//! attachments (<https://nmap.org/nsedoc/scripts/http-domino-enum-passwords.html>); scanners read it through `People`
//! and `$DefaultView` (CVE-2005-2428, CVE-2007-0977,
//! <https://github.com/rapid7/metasploit-framework/blob/master/modules/auxiliary/scanner/lotus/lotus_domino_hashes.rb>).

use super::opened_databases::OpenedDatabases;
use crate::domain::url::{ServerCommand, Target};
use crate::util::percent::PercentDecoder;

/// Databases in the data directory, without their ending, that administrators and servers use.
const CLOSED: [&[u8]; 92] = [
    b"a_domlog",
    b"activity",
    b"admin",
    b"admin4",
    b"admin5",
    b"adminq",
    b"agentrunner",
    b"alog",
    b"autoupdate",
    b"billing",
    b"bookmark",
    b"busytime",
    b"catalog",
    b"certa",
    b"certlog",
    b"certreq",
    b"certsrv",
    b"certstore",
    b"clbusy",
    b"cldbdir",
    b"clubusy",
    b"clusta4",
    b"collect4",
    b"credstore",
    b"da",
    b"daoscat",
    b"dba4",
    b"dbdirman",
    b"dclf",
    b"ddm",
    b"decsadm",
    b"decslog",
    b"dircat",
    b"dirassist",
    b"doladmin",
    b"domadmin",
    b"domchange",
    b"domlog",
    b"dspug",
    b"event",
    b"events",
    b"events4",
    b"events5",
    b"icl",
    b"idpcat",
    b"idvault",
    b"inetlockout",
    b"l_domlog",
    b"leiadm",
    b"leilog",
    b"leivlt",
    b"log",
    b"log4a",
    b"lsxlc",
    b"mailjrn",
    b"mtatbls",
    b"mtstore",
    b"nntppost",
    b"ntsync45",
    b"qpadmin",
    b"reports",
    b"rnrmgr",
    b"schema",
    b"schema50",
    b"setup",
    b"setupweb",
    b"smbcfg",
    b"smconf",
    b"smency",
    b"smhelp",
    b"smmsg",
    b"smquar",
    b"smsolar",
    b"smtime",
    b"smtp",
    b"smtpibwq",
    b"smtpobwq",
    b"smvlog",
    b"statlog",
    b"statmail",
    b"statrep",
    b"stauths",
    b"stautht",
    b"stconf",
    b"stconfig",
    b"stdnaset",
    b"stdomino",
    b"stlog",
    b"userlicenses",
    b"userreg",
    b"vpuserinfo",
    b"webadmin",
];
/// Folders of databases that only servers use: ID vaults, message tracking, newsgroups.
const CLOSED_FOLDERS: [&[u8]; 3] = [b"ibm_id_vault/", b"mtdata/", b"nntp/"];
/// Commands that need no database and tell about the server
/// (<https://help.hcltechsw.com/dom_designer/9.0.1/appdev/H_ABOUT_URL_COMMANDS_FOR_OPENING_SERVERS_DATABASES_AND_VIEWS.html>).
const SERVER_COMMANDS: [&[u8]; 3] = [b"openserver", b"redirect", b"searchdomain"];
/// The Domino Data Service lists the databases here
/// (<https://github.com/OpenNTF/XPagesExtensionLibrary>, `com.ibm.domino.das`).
const DATABASE_LIST: &[u8] = b"api/data";
/// What a custom login form needs of `domcfg.nsf`.
const RESOURCES: [&[u8]; 4] =
    [b"openimageresource", b"openfileresource", b"opencssresource", b"openjavascriptlibrary"];
/// The endings of files that a login form names without a command.
const RESOURCE_ENDINGS: [&[u8]; 10] =
    [b".gif", b".png", b".jpg", b".jpeg", b".svg", b".ico", b".css", b".js", b".woff", b".woff2"];

/// What the preset found in a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BaselineReason {
    /// A command that lists databases or leads to a server by its name.
    ServerCommand,
    /// A replica ID that the directory does not have: it could be any database's.
    UnknownReplica,
    /// A database for administrators and servers.
    ClosedDatabase,
    /// The Domino Directory, and not for a login.
    DominoDirectory,
    /// The configuration of login forms, and not a resource of a form.
    LoginForms,
}

impl BaselineReason {
    /// The code in the access log.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServerCommand => "server_command",
            Self::UnknownReplica => "unknown_replica",
            Self::ClosedDatabase => "closed_database",
            Self::DominoDirectory => "domino_directory",
            Self::LoginForms => "login_forms",
        }
    }

    /// The reason as explain shows it.
    #[must_use]
    pub fn explanation(self) -> &'static str {
        match self {
            Self::ServerCommand => "a command that tells about the server or its databases",
            Self::UnknownReplica => {
                "the directory does not have this replica ID, so it could be any database"
            }
            Self::ClosedDatabase => "a database for administrators and servers",
            Self::DominoDirectory => {
                "of the Domino Directory, only ?Login, ?Logout, ?ChangePassword and logins by a provider are allowed"
            }
            Self::LoginForms => {
                "of domcfg.nsf, only images, style sheets, scripts and attachments are allowed"
            }
        }
    }
}

/// Why the preset denies a request, if it does. `path` is folded.
pub(super) fn denies(
    target: &Target<'_>,
    path: &[u8],
    opened: &OpenedDatabases<'_>,
) -> Option<BaselineReason> {
    if target.may_be_server_command(|name| SERVER_COMMANDS.contains(&name))
        || path.strip_suffix(b"/").unwrap_or(path) == DATABASE_LIST
    {
        return Some(BaselineReason::ServerCommand);
    }
    if opened.is_unknown_replica {
        return Some(BaselineReason::UnknownReplica);
    }
    let names = || opened.candidates.iter().flatten();
    if names().any(|name| is_closed(name)) {
        Some(BaselineReason::ClosedDatabase)
    } else if names().any(|name| stem(name) == Some(b"names")) && !is_login(target) {
        Some(BaselineReason::DominoDirectory)
    } else if names().any(|name| stem(name) == Some(b"domcfg")) && !is_login_resource(target) {
        Some(BaselineReason::LoginForms)
    } else {
        None
    }
}

fn is_closed(name: &[u8]) -> bool {
    // Templates have the design of what is closed; nobody but a server opens a mail box.
    let ends = |ending: &[u8]| name.ends_with(ending);
    ends(b".ntf")
        || ends(b".box")
        || CLOSED_FOLDERS.iter().any(|folder| name.starts_with(folder))
        || stem(name).is_some_and(|stem| CLOSED.contains(&stem) || is_template_or_mail_box(name, stem))
}

fn is_template_or_mail_box(name: &[u8], stem: &[u8]) -> bool {
    let ending = name.get(stem.len()..).unwrap_or_default();
    ending.starts_with(b".ntf") || ending.starts_with(b".box")
}

/// The name of a database in the data directory itself, without its ending. A server may drop blanks and a second ending
/// behind the first one (CVE-2001-1567, `log.ntf++++.nsf`).
fn stem(name: &[u8]) -> Option<&[u8]> {
    if name.contains(&b'/') {
        return None;
    }
    let dot = name.iter().position(|byte| *byte == b'.')?;
    let (stem, rest) = name.split_at_checked(dot)?;
    let (ending, more) = rest.split_at_checked(4)?;
    let is_ending = ending.starts_with(b".ns") || ending == b".ntf" || ending == b".box";
    (is_ending && matches!(more.first(), None | Some(b' ' | b'+'))).then_some(stem)
}

/// The forms that Domino serves under the name of its directory
/// (<https://help.hcl-software.com/domino/14.0.0/admin/conf_settingupsessionbasednameandpasswordauthentication_t.html>).
fn is_login(target: &Target<'_>) -> bool {
    let is_form = matches!(
        target.command.server_command(),
        Some(
            ServerCommand::Login
                | ServerCommand::ProviderLogin
                | ServerCommand::Logout
                | ServerCommand::ChangePassword
        )
    );
    is_form && target.is_database_alone()
}

fn is_login_resource(target: &Target<'_>) -> bool {
    if target.has_hidden_commands() {
        return false;
    }
    let command = target.command.name_bytes();
    let is_open = target.command.is_none() || command == b"open";
    RESOURCES.contains(&command)
        || target.attachment && (is_open || command == b"openelement")
        || is_open && is_resource_name(target.rest())
}

/// One segment with the ending of a resource. Behind a view it would be the key of a document.
fn is_resource_name(rest: &[u8]) -> bool {
    let mut name: smallvec::SmallVec<[u8; 64]> = PercentDecoder::new(rest).values().collect();
    name.make_ascii_lowercase();
    let name = name.strip_prefix(b"/").unwrap_or(&name);
    !name.iter().any(|byte| matches!(byte, b'/' | b'\\'))
        && RESOURCE_ENDINGS.iter().any(|end| name.ends_with(end))
}
