//! What users and newcomers do: they write documents, read their own and a view, and edit what they have read.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;

use super::client::{self, Browser, Failure, Page};
use super::ledger::{Acknowledgement, FailedRequest, NewcomerRead, OwnRead, Records, Write};
use super::{COMMON_DATABASES, Clock, DATABASES, Plan, Site};

/// Documents of his own that a user has at most in one database.
const MAX_OWN_DOCUMENTS: usize = 3;
/// Two users edit a common document in turns of this many seconds, with a turn of nobody in between.
const TURN: f64 = 2.0;
const VIEW: &str = "documents?OpenView";

/// A document as the user has it on the screen.
struct Seen {
    database: usize,
    unid: String,
    /// Number of the revision and the save that made it; `None` before the first reading.
    revision: Option<(u64, String)>,
    /// His last acknowledged save.
    own: Option<String>,
    /// A colleague edits it, too.
    common: bool,
}

struct User {
    number: usize,
    browser: Browser,
    clock: Clock,
    records: Arc<Mutex<Records>>,
    documents: Vec<Seen>,
    /// His last acknowledged save in each database.
    last: [Option<String>; DATABASES.len()],
    /// The server of the last response, for each database.
    server: [Option<usize>; DATABASES.len()],
    /// The load balancer has said that the copy is older, since his last own write.
    told: [bool; DATABASES.len()],
    saves: usize,
}

/// One user, until the end.
pub async fn user(number: usize, site: Site, plan: Plan, clock: Clock, records: Arc<Mutex<Records>>) {
    let browser = Browser::new(client::http(1), site.balancer, site.refused_cookie);
    let mut user = User {
        number,
        browser,
        clock,
        records,
        documents: Vec::new(),
        last: Default::default(),
        server: Default::default(),
        told: Default::default(),
        saves: 0,
    };
    let mut random = fastrand::Rng::with_seed(number as u64);
    tokio::time::sleep(Duration::from_millis(random.u64(0..500))).await;
    // The first ones have a mail file each, the others a colleague.
    let mail_file = Some(COMMON_DATABASES + number).filter(|database| *database < DATABASES.len());
    let common = number / 4 % COMMON_DATABASES;
    let home = mail_file.unwrap_or(common);
    let second = if mail_file.is_some() { common } else { (common + 1) % COMMON_DATABASES };
    user.create(home).await;
    if mail_file.is_none() {
        user.common_document(home).await;
    }
    // Half of the users only read while their cluster is not in order, and look for what they had written.
    let is_cautious = number / 2 % 2 == 1;
    while clock.now() < plan.timeline.end {
        let database = if random.f64() < 0.8 { home } else { second };
        let in_order = !(plan.timeline.kill..plan.timeline.replicate).contains(&clock.now());
        let writes = if in_order || !is_cautious { 12 } else { 0 };
        match random.u32(0..100) {
            n if n < writes => user.create_or_edit(database, &mut random).await,
            n if n < 2 * writes => user.edit_common(home).await,
            n if n < 60 => user.read_last(database).await,
            _ => user.read_view(database).await,
        }
        tokio::time::sleep(Duration::from_millis(random.u64(plan.think_ms.clone()))).await;
    }
}

impl User {
    /// Users 10 and 11, 12 and 13, and so on have a common document, which the first of them creates.
    async fn common_document(&mut self, database: usize) {
        let unid = format!("{:032X}", 0xC0_0000 + self.number / 2);
        if self.number.is_multiple_of(2) {
            self.save(database, None, &unid, "Memo?CreateDocument", true).await;
        } else {
            self.documents.push(Seen { database, unid, revision: None, own: None, common: true });
        }
    }

    async fn create(&mut self, database: usize) {
        let unid = format!("{:032X}", 0xD0_0000 + self.number * 1000 + self.saves);
        self.save(database, None, &unid, "Memo?CreateDocument", false).await;
    }

    async fn create_or_edit(&mut self, database: usize, random: &mut fastrand::Rng) {
        let own = self.documents.iter().filter(|seen| seen.database == database && !seen.common).count();
        if own < MAX_OWN_DOCUMENTS {
            self.create(database).await;
        } else {
            self.edit(database, random).await;
        }
    }

    /// Saves one of his own documents, half of the time after reading it again.
    async fn edit(&mut self, database: usize, random: &mut fastrand::Rng) {
        let own = |seen: &&Seen| seen.database == database && !seen.common;
        let all: Vec<String> = self.documents.iter().filter(own).map(|seen| seen.unid.clone()).collect();
        let Some(unid) = random.choice(all) else { return };
        if random.bool() {
            self.read(database, &unid).await;
            tokio::time::sleep(Duration::from_millis(random.u64(20..200))).await;
        }
        self.save_again(database, &unid).await;
    }

    /// Reads the document that he has in common with a colleague, and saves it if it is his turn.
    async fn edit_common(&mut self, database: usize) {
        let Some(seen) = self.documents.iter().find(|seen| seen.common) else { return };
        let unid = seen.unid.clone();
        let turn = (self.clock.now() / TURN) as usize % 4;
        if self.read(database, &unid).await && turn == self.number % 2 * 2 {
            self.save_again(database, &unid).await;
        }
    }

    async fn save_again(&mut self, database: usize, unid: &str) {
        let base = self.seen(unid).and_then(|seen| seen.revision.clone());
        if base.is_some() {
            self.save(database, base, unid, &format!("0/{unid}?SaveDocument"), false).await;
        }
    }

    async fn save(
        &mut self,
        database: usize,
        base: Option<(u64, String)>,
        unid: &str,
        command: &str,
        common: bool,
    ) {
        self.saves += 1;
        let id = format!("u{}-{}", self.number, self.saves);
        let write = Write { base: base.as_ref().map(|(_, id)| id.clone()), acknowledged: None };
        self.records.lock().unwrap().writes.insert(id.clone(), write);
        let seq = base.map(|(seq, _)| format!("&base_seq={seq}")).unwrap_or_default();
        let form = format!("unid={unid}&author=u{}&text={id}&write_id={id}{seq}", self.number);
        let target = format!("/{}/{command}", DATABASES[database].0);
        let result = self.browser.post(&target, form).await;
        let now = self.clock.now();
        let Some(page) = self.note(database, false, result) else { return };
        let (answer, Some(server)) = (page.fields(), page.server) else { return };
        let Some(seq) = answer["seq"].as_u64().filter(|_| page.status < 300) else { return };
        if answer["conflict"] == true {
            // His save was refused; he has the newer revision on the screen now.
            let newer = answer["write_id"].as_str().unwrap_or_default().to_owned();
            if let Some(seen) = self.seen(unid) {
                seen.revision = Some((seq, newer));
            }
            return;
        }
        let mut records = self.records.lock().unwrap();
        let write = records.writes.get_mut(&id).unwrap();
        write.acknowledged = Some(Acknowledgement { at: now, server, seq });
        if answer["lost_update"] == true {
            write.base = None;
        }
        drop(records);
        self.last[database] = Some(id.clone());
        self.told[database] = false;
        let seen = Seen {
            database,
            unid: unid.to_owned(),
            revision: Some((seq, id.clone())),
            own: Some(id),
            common: common || self.seen(unid).is_some_and(|seen| seen.common),
        };
        self.documents.retain(|old| old.unid != seen.unid);
        self.documents.push(seen);
    }

    /// Reads the document that he saved last in this database.
    async fn read_last(&mut self, database: usize) {
        let last = self.documents.iter().rfind(|seen| seen.database == database && seen.own.is_some());
        if let Some(unid) = last.map(|seen| seen.unid.clone()) {
            self.read(database, &unid).await;
        }
    }

    /// Reads a document; true if he got it.
    async fn read(&mut self, database: usize, unid: &str) -> bool {
        let target = format!("/{}/0/{unid}?OpenDocument", DATABASES[database].0);
        let (sent, page) = self.open(database, &target).await;
        let Some((page, server)) = page.and_then(|page| page.server.map(|server| (page, server))) else {
            return false;
        };
        let answer = page.fields();
        let found = revision(&answer);
        self.judge_later(database, sent, server, unid, found.clone());
        let Some(found) = found else { return false };
        if let Some(seen) = self.seen(unid) {
            seen.revision = Some(found);
        }
        true
    }

    /// Reads the view of all documents, in which he looks for all that he has saved.
    async fn read_view(&mut self, database: usize) {
        let target = format!("/{}/{VIEW}", DATABASES[database].0);
        let (sent, page) = self.open(database, &target).await;
        let Some((page, server)) = page.and_then(|page| page.server.map(|server| (page, server))) else {
            return;
        };
        let answer = page.fields();
        let Some(shown) = answer["documents"].as_array() else { return };
        let own = |seen: &&Seen| seen.database == database && seen.own.is_some();
        let mine: Vec<String> = self.documents.iter().filter(own).map(|seen| seen.unid.clone()).collect();
        for unid in mine {
            let found = shown.iter().find(|document| document["unid"] == unid.as_str());
            self.judge_later(database, sent, server, &unid, found.and_then(revision));
        }
    }

    /// Opens a page, and follows the link of a page that says that this copy is older. Returns when the request was sent.
    async fn open(&mut self, database: usize, target: &str) -> (f64, Option<Page>) {
        let mut target = target.to_owned();
        let mut sent = self.clock.now();
        // The page comes once for each write; more would be a fault, and must not hold the user for ever.
        for _ in 0..3 {
            sent = self.clock.now();
            let result = self.browser.get(&target).await;
            let Some(page) = self.note(database, true, result) else { break };
            let Some(link) = page.link_to_older_copy() else { return (sent, Some(page)) };
            self.told[database] = true;
            self.records.lock().unwrap().told += 1;
            target = link;
        }
        (sent, None)
    }

    fn judge_later(
        &self,
        database: usize,
        sent: f64,
        server: usize,
        unid: &str,
        found: Option<(u64, String)>,
    ) {
        let Some(seen) = self.documents.iter().find(|seen| seen.unid == unid) else { return };
        let Some(wanted) = seen.own.clone() else { return };
        let read = OwnRead {
            database,
            sent,
            received: self.clock.now(),
            server,
            unid: unid.to_owned(),
            found,
            is_last: self.last[database].as_ref() == Some(&wanted),
            wanted,
            told: self.told[database],
        };
        self.records.lock().unwrap().own_reads.push(read);
    }

    fn seen(&mut self, unid: &str) -> Option<&mut Seen> {
        self.documents.iter_mut().find(|seen| seen.unid == unid)
    }

    /// Counts a request and its result.
    fn note(&mut self, database: usize, is_get: bool, result: Result<Page, Failure>) -> Option<Page> {
        let mut records = self.records.lock().unwrap();
        let page = count(&mut records, is_get, result)?;
        if let Some(server) = page.server
            && self.server[database].replace(server).is_some_and(|before| before != server)
        {
            *records.moves.entry(self.number).or_default() += 1;
        }
        Some(page)
    }
}

/// The number of a document's revision and the save that made it.
fn revision(document: &Value) -> Option<(u64, String)> {
    Some((document["seq"].as_u64()?, document["write_id"].as_str()?.to_owned()))
}

fn count(records: &mut Records, is_get: bool, result: Result<Page, Failure>) -> Option<Page> {
    if is_get {
        records.gets += 1;
    } else {
        records.posts += 1;
    }
    match result {
        Ok(page) => {
            records.times.push(page.took.as_secs_f64() * 1000.0);
            Some(page)
        }
        Err(failure) => {
            records.failed.push(FailedRequest { is_get, failure });
            None
        }
    }
}

/// People without cookies, each with a connection of his own, who read a view.
pub async fn newcomers(site: Site, plan: Plan, clock: Clock, records: Arc<Mutex<Records>>) {
    let client = client::http(0);
    let mut random = fastrand::Rng::with_seed(4711);
    let mut requests = tokio::task::JoinSet::new();
    let mut next = 1.0;
    while next < plan.timeline.end {
        clock.sleep_until(next).await;
        next += 1.0 / plan.newcomers_per_second;
        let database = random.usize(0..COMMON_DATABASES);
        let (client, records, address) = (client.clone(), records.clone(), site.balancer);
        requests.spawn(async move {
            let mut browser = Browser::new(client, address, None);
            let sent = clock.now();
            let result = browser.get(&format!("/{}/{VIEW}", DATABASES[database].0)).await;
            let mut records = records.lock().unwrap();
            let page = count(&mut records, true, result);
            if let Some(server) = page.and_then(|page| page.server) {
                records.newcomers.push(NewcomerRead { database, sent, server });
            }
        });
    }
    while let Some(ended) = requests.join_next().await {
        ended.unwrap();
    }
}
