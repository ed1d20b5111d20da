# domino-icm in a container: `docker build -t domino-icm .`, then
#   docker run -p 80:8080 -v ./icm:/etc/icm:ro -v icm-state:/var/lib/icm domino-icm
# /etc/icm/icm.yaml is the configuration. It runs as user 65532: ports inside are above 1023 (listeners on 8080 and
# 8443, say), and files with secrets belong to that user. Docker's stop waits ten seconds unless told otherwise:
# `--stop-timeout 90` gives requests in flight the grace period.

FROM rust:1-bookworm AS build
# zlib-ng and the TLS library are built from C; nothing of them is left in the second stage but code.
RUN apt-get update && apt-get install --yes --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
COPY benches benches
COPY tests tests
RUN cargo build --release --locked --bin icm && mkdir -p /image/var/lib/icm /image/run/icm

# Libraries of C and certificates of public authorities, no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/icm /usr/local/bin/icm
COPY --from=build --chown=65532:65532 /image/ /
USER 65532:65532
VOLUME /var/lib/icm
STOPSIGNAL SIGTERM
# Asks the admin listener of the configuration, which may stay on loopback.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s \
  CMD ["/usr/local/bin/icm", "check", "--running", "-c", "/etc/icm/icm.yaml"]
ENTRYPOINT ["/usr/local/bin/icm"]
CMD ["run", "-c", "/etc/icm/icm.yaml"]
