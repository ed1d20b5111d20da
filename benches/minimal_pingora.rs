//! A minimal Pingora proxy with one worker thread: round robin, upstream keep-alive, no log, no checks.
//!
//! `benches/wrk/run.sh` measures `icm` against it: the difference is the cost of `icm`, the rest that of the framework.

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use pingora::Result;
use pingora::lb::LoadBalancer;
use pingora::lb::selection::RoundRobin;
use pingora::proxy::{ProxyHttp, Session, http_proxy_service};
use pingora::server::Server;
use pingora::server::configuration::ServerConf;
use pingora::upstreams::peer::HttpPeer;

const USAGE: &str = "usage: minimal_pingora LISTEN [--tls LISTEN CERT KEY]... ORIGIN...";

struct Minimal(Arc<LoadBalancer<RoundRobin>>);

#[async_trait]
impl ProxyHttp for Minimal {
    type CTX = ();
    fn new_ctx(&self) -> Self::CTX {}

    async fn upstream_peer(&self, _session: &mut Session, (): &mut Self::CTX) -> Result<Box<HttpPeer>> {
        let origin = self
            .0
            .select(b"", 16)
            .ok_or_else(|| pingora::Error::explain(pingora::ErrorType::InternalError, "no origin"))?;
        Ok(Box::new(HttpPeer::new(origin, false, String::new())))
    }
}

fn main() -> std::result::Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // `cargo bench` runs every bench with this argument; this one needs a script.
    if arguments.iter().any(|a| a == "--bench" || a == "--test") {
        return Ok(());
    }
    let Some((listen, mut rest)) = arguments.split_first() else { return Err(USAGE.into()) };
    let mut secure = Vec::new();
    while let [option, address, cert, key, others @ ..] = rest
        && option == "--tls"
    {
        secure.push((address, cert, key));
        rest = others;
    }
    let origins = Some(rest).filter(|origins| !origins.is_empty()).ok_or(USAGE)?;
    let conf = ServerConf { threads: 1, upstream_keepalive_pool_size: 512, ..ServerConf::default() };
    let mut server = Server::new_with_opt_and_conf(None, conf);
    server.bootstrap();
    let balancer = LoadBalancer::try_from_iter(origins)?;
    let mut service = http_proxy_service(&server.configuration, Minimal(Arc::new(balancer)));
    service.add_tcp(listen);
    for (address, cert, key) in secure {
        service.add_tls(address, cert, key)?;
    }
    server.add_service(service);
    server.run_forever()
}
