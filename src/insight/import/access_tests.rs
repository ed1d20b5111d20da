//! What other proxies refuse stays refused, or is in the list: rules with exceptions, nested and unknown locations, addresses.
//! Separate from the other tests, because each case here would open something if it failed.

use super::tests::{haproxy, nginx, of_cluster, read, reasons};

fn rules(imported: &super::ImportedConfig) -> Vec<String> {
    let rules = of_cluster(imported, "access");
    rules.as_array().map(|all| all.iter().map(ToString::to_string).collect()).unwrap_or_default()
}

fn lists(imported: &super::ImportedConfig, text: &str) -> bool {
    reasons(imported).iter().any(|reason| reason.contains(text))
}

#[test]
fn an_exception_of_haproxy_opens_nothing_that_another_rule_denies() {
    let both = haproxy(
        " acl int src 10.0.0.0/8\n acl office src 192.168.0.0/16\n http-request deny if { path_beg /a } !int\n \
         http-request deny if { path_beg /a/b } !office\n http-request deny if { path_beg /c } !office\n \
         http-request deny if { path_beg /d } !int",
    );
    assert_eq!(
        rules(&both),
        [
            r#"{"allow":{"client":"10.0.0.0/8","path":"/a*"}}"#,
            r#"{"deny":{"path":"/a*"}}"#,
            r#"{"allow":{"client":"192.168.0.0/16","path":"/c*"}}"#,
            r#"{"deny":{"path":"/c*"}}"#,
            r#"{"allow":{"client":"10.0.0.0/8","path":"/d*"}}"#,
            r#"{"deny":{"path":"/d*"}}"#
        ]
    );
    assert!(lists(&both, "http-request deny if { path_beg /a/b } !office: its exception would also allow"));

    // A rule about all requests restricts the exceptions of the others.
    let all = haproxy(
        " http-request deny if { path_beg /a } !{ src 10.0.0.0/8 }\n http-request deny unless { src 10.1.0.0/16 172.16.0.1 }\n \
         http-request deny if { path_beg /b } !METH_GET",
    );
    assert_eq!(
        rules(&all),
        [
            r#"{"allow":{"client":"10.1.0.0/16","path":"/a*"}}"#,
            r#"{"deny":{"path":"/a*"}}"#,
            r#"{"allow":{"client":["10.1.0.0/16","172.16.0.1"],"method":"GET","path":"/b*"}}"#,
            r#"{"deny":{"path":"/b*"}}"#,
            r#"{"allow":{"client":["10.1.0.0/16","172.16.0.1"]}}"#,
            r#"{"deny":"all"}"#
        ]
    );

    // The rules of the backend come behind those of the frontend, and still deny first.
    let text = "defaults\n mode http\nfrontend www\n bind :80\n http-request deny unless { src 10.0.0.0/8 }\n \
                default_backend b\nbackend b\n http-request deny if { path /secret }\n server web1 10.0.0.11:80\n";
    let backend = read("haproxy.cfg", text);
    let expected =
        [r#"{"deny":{"path":"/secret"}}"#, r#"{"allow":{"client":"10.0.0.0/8"}}"#, r#"{"deny":"all"}"#];
    assert_eq!(rules(&backend), expected);
}

#[test]
fn rules_of_a_backend_that_is_a_pool_are_listed() {
    let imported = haproxy(
        " use_backend api if { path_beg /api }\n tcp-request session reject if { src 1.2.3.4 }\nbackend api\n http-request \
         deny if { src 7.7.7.7 }\n tcp-request content reject if { src 8.8.8.8 }\n server a1 10.1.0.1:80",
    );
    assert_eq!(rules(&imported), [r#"{"deny":{"client":"1.2.3.4"}}"#]);
    assert!(lists(&imported, "http-request deny if { src 7.7.7.7 }: its section is no cluster here"));
    assert!(lists(
        &imported,
        "tcp-request content reject if { src 8.8.8.8 }: its section is no cluster here"
    ));
}

#[test]
fn defaults_of_haproxy_inherit_from_others() {
    let text = "defaults base\n mode http\n default-server ssl verify required ca-file /ca.pem\n timeout server 5s\n \
                http-request deny if { path /x }\ndefaults web from base\n timeout server 9s\nfrontend www\n bind :80\n \
                default_backend b\nbackend b\n server web1 10.0.0.11\n";
    let imported = read("haproxy.cfg", text);
    assert_eq!(of_cluster(&imported, "upstream_scheme"), "https");
    assert_eq!(of_cluster(&imported, "upstream_tls.ca_file"), "/ca.pem");
    assert_eq!(of_cluster(&imported, "failover.response_timeout"), "9s");
    assert_eq!(rules(&imported), [r#"{"deny":{"path":"/x"}}"#]);
    assert_eq!(reasons(&imported), Vec::<String>::new());
}

#[test]
fn locations_of_nginx_keep_what_the_levels_around_them_deny() {
    let nested = nginx(
        "location /out/ { deny 1.2.3.4; proxy_pass http://domino; location /out/in/ { proxy_pass http://domino; } }",
    );
    let expected = [
        r#"{"deny":{"client":"1.2.3.4","path_prefix":"/out/in"}}"#,
        r#"{"allow":{"path_prefix":"/out/in"}}"#,
        r#"{"deny":{"client":"1.2.3.4","path_prefix":"/out"}}"#,
    ];
    assert_eq!(rules(&nested), expected);

    // The longer prefix has the rules of the block, not those of the shorter one.
    let general = nginx(
        "allow 10.0.0.0/8; deny all; location /a/b/ { proxy_pass http://domino; } location /a/ { allow all; proxy_pass \
         http://domino; }",
    );
    let expected = [
        r#"{"allow":{"client":"10.0.0.0/8","path_prefix":"/a/b"}}"#,
        r#"{"deny":{"path_prefix":"/a/b"}}"#,
        r#"{"allow":{"path_prefix":"/a"}}"#,
        r#"{"allow":{"client":"10.0.0.0/8"}}"#,
        r#"{"deny":"all"}"#,
    ];
    assert_eq!(rules(&general), expected);

    // `location /` has rules of its own, which hold there only.
    let main = read(
        "nginx.conf",
        "http { deny 1.1.1.1; upstream d { server 10.0.0.1; } server { listen 80; location / { deny 2.2.2.2; proxy_pass \
         http://d; } location /b/ { proxy_pass http://d; } } }",
    );
    let expected = [
        r#"{"deny":{"client":"1.1.1.1","path_prefix":"/b"}}"#,
        r#"{"allow":{"path_prefix":"/b"}}"#,
        r#"{"deny":{"client":"2.2.2.2"}}"#,
    ];
    assert_eq!(rules(&main), expected);

    let internal = nginx("location /private/ { internal; proxy_pass http://domino; }");
    assert_eq!(rules(&internal), [r#"{"deny":{"path_prefix":"/private"},"status":404}"#]);
}

#[test]
fn what_restricts_a_location_that_is_not_taken_over_is_listed() {
    let imported = nginx("location ~ ^/(?!x)y { deny all; auth_request /check; proxy_pass http://domino; }");
    assert!(lists(&imported, "deny all: the location is not taken over"), "{:?}", reasons(&imported));
    assert!(lists(&imported, "auth_request /check: icm does not authenticate users"));
}

#[test]
fn a_name_that_more_addresses_lead_to_now_is_listed() {
    let text = "http { upstream d { server 10.0.0.1; } server { listen 443 ssl; server_name a.example; ssl_certificate /c; \
                ssl_certificate_key /k; ssl_client_certificate /ca; ssl_verify_client on; location / { proxy_pass http://d; } } \
                server { listen 127.0.0.1:81; server_name b.example; location / { proxy_pass http://d; } } server { listen \
                443 ssl; server_name c.example; ssl_certificate /c; ssl_certificate_key /k; location / { proxy_pass \
                http://d; } } }";
    let imported = read("nginx.conf", text);
    assert!(lists(&imported, "so it is now reached on 0.0.0.0:443 as well"), "{:?}", reasons(&imported));
    assert!(lists(
        &imported,
        "the listener 0.0.0.0:443 asks the clients of all host names for a certificate"
    ));

    let same = nginx("listen [::]:80;");
    assert_eq!(reasons(&same), Vec::<String>::new());

    let text = "defaults\n mode http\nfrontend a\n bind :80\n default_backend x\nfrontend b\n bind 127.0.0.1:81\n \
                default_backend y\nbackend x\n server s 10.0.0.1:80\nbackend y\n server s 10.0.0.2:80\n";
    let imported = read("haproxy.cfg", text);
    assert!(lists(&imported, "frontend a {}: icm serves every host name on every listener"));
    assert!(lists(&imported, "frontend b {}: another cluster serves all host names already"));
}
