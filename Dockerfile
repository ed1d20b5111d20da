# domino-icm in a container: `docker build -t domino-icm .`, then
#   docker run -p 80:8080 -v ./icm:/etc/icm:ro -v icm-state:/var/lib/icm domino-icm
# The configuration is /etc/icm/icm.yaml. The container runs as user 65532, so listeners need ports above 1023 (for example
# 8080 and 8443), and files with secrets must belong to that user. Docker stops a container after ten seconds;
# `--stop-timeout 90` gives requests in flight the whole grace period.

FROM rust:1-bookworm AS build
# zlib-ng and the TLS library are built from C, so only the first stage needs a C compiler.
RUN apt-get update && apt-get install --yes --no-install-recommends cmake && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY Cargo.toml Cargo.lock ./
COPY .cargo .cargo
COPY src src
COPY benches benches
COPY tests tests
RUN cargo build --release --locked --bin icm && mkdir -p /image/var/lib/icm /image/run/icm

# Has C libraries and the certificates of public authorities, but no shell and no package manager.
FROM gcr.io/distroless/cc-debian12:nonroot
COPY --from=build /src/target/release/icm /usr/local/bin/icm
COPY --from=build --chown=65532:65532 /image/ /
USER 65532:65532
VOLUME /var/lib/icm
STOPSIGNAL SIGTERM
# Asks the admin listener named in the configuration, which may be on loopback.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s \
  CMD ["/usr/local/bin/icm", "check", "--running", "-c", "/etc/icm/icm.yaml"]
ENTRYPOINT ["/usr/local/bin/icm"]
CMD ["run", "-c", "/etc/icm/icm.yaml"]
