//! Tickets between listeners and processes: which keys, settings and times accept them.

use proptest::prelude::*;

use super::*;

const NOW: u64 = 1_800_000_000;
const SESSION: &[u8] = b"what rustls keeps of a session";

fn scope() -> TicketScope {
    TicketScope::new(None, None)
}

fn with_secrets(secrets: &[&[u8]]) -> SessionTickets {
    SessionTickets::from_secrets(secrets.iter().copied(), scope())
}

#[test]
fn a_ticket_is_accepted_by_everyone_with_the_key() {
    let (one, other) = (with_secrets(&[b"one"]), with_secrets(&[b"one"]));
    let ticket = one.encrypt(SESSION).unwrap();
    assert_eq!(other.decrypt(&ticket).as_deref(), Some(SESSION));
    assert_eq!(with_secrets(&[b"two"]).decrypt(&ticket), None);
    assert_ne!(one.encrypt(SESSION).unwrap(), ticket, "nobody can tell two tickets of one session");
    assert!(!ticket.windows(8).any(|part| SESSION.starts_with(part)));
    assert!(one.enabled());
    assert_eq!(one.lifetime(), 12 * 3600);
}

#[test]
fn the_first_key_encrypts_and_all_decrypt() {
    let before = with_secrets(&[b"old"]);
    let (between, after) = (with_secrets(&[b"new", b"old"]), with_secrets(&[b"new"]));
    let (old, new) = (before.encrypt(SESSION).unwrap(), between.encrypt(SESSION).unwrap());
    assert_eq!(between.decrypt(&old).as_deref(), Some(SESSION));
    assert_eq!(after.decrypt(&new).as_deref(), Some(SESSION));
    assert_eq!((before.decrypt(&new), after.decrypt(&old)), (None, None));
    // The second ICM can read tickets of a key before it makes some.
    assert!(with_secrets(&[b"old", b"new"]).decrypt(&new).is_some());
    assert_eq!(with_secrets(&[]).encrypt(SESSION), None);
}

#[test]
fn a_ticket_ends_after_its_lifetime_even_if_the_key_stays() {
    let tickets = with_secrets(&[b"kept for years"]);
    let ticket = tickets.encrypt_at(NOW, SESSION).unwrap();
    let lifetime = u64::from(LIFETIME);
    assert!(tickets.decrypt_at(NOW + lifetime - 1, &ticket).is_some());
    assert_eq!(tickets.decrypt_at(NOW + lifetime, &ticket), None);
    assert!(tickets.decrypt_at(NOW - 60, &ticket).is_some(), "the clock of the other ICM is a minute ahead");
    let mut younger = ticket;
    younger[NAME_BYTES + SALT_BYTES + TIME_BYTES - 1] ^= 1;
    assert_eq!(tickets.decrypt_at(NOW, &younger), None, "the time is authenticated");
}

#[test]
fn tickets_do_not_cross_between_settings_for_client_certificates() {
    let (a, b) = (b"authority a".to_vec(), b"authority b".to_vec());
    let with = |required, authorities: &[Vec<u8>]| {
        TicketScope::new(None, Some(ClientCertificateScope { required, authorities }))
    };
    let address = |text: &str| Some(text.parse().unwrap());
    let scopes = [
        TicketScope::new(None, None),
        with(false, std::slice::from_ref(&a)),
        with(true, std::slice::from_ref(&a)),
        with(true, std::slice::from_ref(&b)),
        with(true, &[a.clone(), b.clone()]),
        with(true, &[]),
        with(true, &[b"authority aauthority b".to_vec()]),
        TicketScope::new(address("192.0.2.1:443"), None),
        TicketScope::new(address("192.0.2.2:443"), None),
    ];
    let listeners = scopes.map(|scope| SessionTickets::from_secrets([&b"one"[..]], scope));
    for (n, from) in listeners.iter().enumerate() {
        let ticket = from.encrypt(SESSION).unwrap();
        for (m, to) in listeners.iter().enumerate() {
            assert_eq!(to.decrypt(&ticket).is_some(), n == m, "{n} to {m}");
        }
    }
    assert_eq!(with(true, &[a.clone(), b.clone()]), with(true, &[b, a]), "the order says nothing");
}

#[test]
fn generated_keys_are_renewed_by_time_and_the_one_before_still_decrypts() {
    let keys = Arc::new(GeneratedTicketKeys::new(None));
    let tickets = SessionTickets::generated(keys, scope());
    let first = tickets.encrypt_at(NOW, SESSION).unwrap();
    let second = tickets.encrypt_at(NOW + ROTATION_INTERVAL, SESSION).unwrap();
    assert_ne!(first[..NAME_BYTES], second[..NAME_BYTES]);
    assert!(tickets.decrypt_at(NOW + ROTATION_INTERVAL, &first).is_some());
    let third = tickets.encrypt_at(NOW + 2 * ROTATION_INTERVAL, SESSION).unwrap();
    let at = |ticket: &[u8]| tickets.decrypt_at(NOW + 2 * ROTATION_INTERVAL, ticket).is_some();
    assert_eq!((at(&first), at(&second), at(&third)), (false, true, true));
    // A clock that was set back by a day.
    let back = tickets.encrypt_at(NOW - 86_400, SESSION).unwrap();
    assert_ne!(back[..NAME_BYTES], third[..NAME_BYTES]);
    assert!(tickets.decrypt_at(NOW - 86_400, &back).is_some());
}

#[test]
fn the_next_process_goes_on_with_the_same_keys() {
    let old = Arc::new(GeneratedTicketKeys::new(None));
    let of = |keys: &Arc<GeneratedTicketKeys>| SessionTickets::generated(Arc::clone(keys), scope());
    let ticket = of(&old).encrypt(SESSION).unwrap();
    let sent = serde_json::to_string(&old.inheritance()).unwrap();
    let new = Arc::new(GeneratedTicketKeys::new(Some(serde_json::from_str(&sent).unwrap())));
    assert_eq!(of(&new).decrypt(&ticket).as_deref(), Some(SESSION));
    assert_eq!(of(&old).decrypt(&of(&new).encrypt(SESSION).unwrap()).as_deref(), Some(SESSION));
    let stranger = Arc::new(GeneratedTicketKeys::new(None));
    assert_eq!(of(&stranger).decrypt(&ticket), None);
    let short = InheritedTicketKeys { since: NOW, secrets: vec![vec![1, 2, 3]] };
    let repaired = GeneratedTicketKeys::new(Some(short)).inheritance();
    assert_eq!(repaired.secrets.iter().map(Vec::len).collect::<Vec<_>>(), [SECRET_BYTES]);
    let shown = format!("{:?} {:?} {:?}", old.inheritance(), old, of(&old));
    let secret = format!("{:?}", old.inheritance().secrets[0]);
    assert!(!shown.contains(secret.trim_matches(['[', ']'])), "{shown}");
}

proptest! {
    #[test]
    fn a_session_comes_back_whole_and_no_changed_ticket_is_accepted(
        session in proptest::collection::vec(any::<u8>(), 0..3000),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let tickets = with_secrets(&[b"one", b"two"]);
        let ticket = tickets.encrypt(&session).unwrap();
        prop_assert_eq!(tickets.decrypt(&ticket), Some(session));
        let at = at.index(ticket.len());
        let mut changed = ticket.clone();
        changed[at] ^= 1 << bit;
        prop_assert_eq!(tickets.decrypt(&changed), None);
        prop_assert_eq!(tickets.decrypt(&ticket[..at]), None);
    }

    #[test]
    fn any_bytes_are_no_ticket(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        prop_assert_eq!(with_secrets(&[b"one"]).decrypt(&bytes), None);
    }
}
