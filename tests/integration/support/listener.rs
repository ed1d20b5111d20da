//! A TCP listener of a test, with a thread for each connection.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Accepts connections until it is dropped.
pub struct Listener {
    pub address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl Listener {
    /// Runs `serve` with each connection and its number, from 0, in a separate thread.
    pub fn start(serve: impl Fn(TcpStream, usize) + Send + Sync + 'static) -> Listener {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, serve) = (stop.clone(), Arc::new(serve));
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().flatten().enumerate() {
                if stopped.load(Ordering::Relaxed) {
                    return;
                }
                let _ = stream.set_nodelay(true);
                let serve = serve.clone();
                std::thread::spawn(move || serve(stream, number));
            }
        });
        Listener { address, stop }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the accepting thread, so that it exits.
        let _ = TcpStream::connect(self.address);
    }
}
