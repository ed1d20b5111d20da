# The container images of icm and of the simulated Acme cluster, for Docker, Podman and Buildah. `make image` prepares the
# context (target/image) and builds both; what the context contains is in conf/container/build.sh. By hand:
#
#   docker build -f Dockerfile --target icm -t domino-icm target/image
#
# docs/containers.md says how to run it. Nothing runs during the build, and no base image is fetched: an image is the
# executable, the certificates of the public authorities, and a user.

FROM scratch AS acme
ADD acme.tar /
LABEL org.opencontainers.image.title="acme" \
      org.opencontainers.image.description="A simulated HCL Domino cluster to try domino-icm with" \
      org.opencontainers.image.licenses="Apache-2.0"
USER 65532:65532
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/bin/acme"]

# The last stage is what a build without --target makes.
FROM scratch AS icm
ARG VERSION=unknown
ARG REVISION=unknown
# An archive, because it keeps the owner of /var/lib/icm, which a new volume takes over.
ADD icm.tar /
LABEL org.opencontainers.image.title="domino-icm" \
      org.opencontainers.image.description="The Internet Cluster Manager for HCL Domino, rebuilt as a reverse proxy on Pingora" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION"
# A number, so that Kubernetes can see that it is not root.
USER 65532:65532
VOLUME /var/lib/icm
STOPSIGNAL SIGTERM
# Asks the admin listener named in the configuration, which may be on loopback.
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s \
  CMD ["/usr/bin/icm", "check", "--running", "-c", "/etc/icm/icm.yaml"]
ENTRYPOINT ["/usr/bin/icm"]
CMD ["run", "-c", "/etc/icm/icm.yaml"]
