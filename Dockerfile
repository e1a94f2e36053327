# bearerd; with --target querysim, the simulated login servers and Query Service. Needs BuildKit, Docker's default since 23.0.
ARG GO_IMAGE=golang:1.26

# On the machine's own architecture, whatever the image's is: Go needs no emulation.
FROM --platform=$BUILDPLATFORM ${GO_IMAGE} AS build
WORKDIR /src
COPY . .
# Where go gets modules and checks them, if not from the internet.
ARG GOPROXY
ARG GOSUMDB
ARG TARGETOS
ARG TARGETARCH
ARG VERSION=devel
ARG SOURCE_DATE_EPOCH=0
# As in a release: the same source, version and Go give the same bytes anywhere. A layer holds the time of its files too.
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH GOFLAGS=-mod=readonly go build -trimpath -buildvcs=false \
      -ldflags "-s -w -buildid= -X main.releaseVersion=$VERSION" -o /out/ ./cmd/bearerd ./cmd/querysim \
    && touch -d "@$SOURCE_DATE_EPOCH" /out/*

FROM scratch AS querysim
ARG VERSION=devel
LABEL org.opencontainers.image.title="querysim" \
      org.opencontainers.image.description="Simulated login servers and Query Service, to try bearerd" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /out/querysim /querysim
USER 65532:65532
HEALTHCHECK --interval=5s --timeout=6s --start-period=15s CMD ["/querysim", "-probe"]
ENTRYPOINT ["/querysim"]
CMD ["-login-listen=:8081", "-query-listen=:8082", "-control-listen=:8083"]

# The last stage is what `docker build .` makes.
FROM scratch AS bearerd
ARG VERSION=devel
LABEL org.opencontainers.image.title="bearerd" \
      org.opencontainers.image.description="Local authenticating reverse proxy" \
      org.opencontainers.image.version="$VERSION"
COPY --from=build /out/bearerd /bearerd
USER 65532:65532
# Whether requests will find a token. To Docker it is a mark on the container, no reason for a restart.
HEALTHCHECK --interval=5s --timeout=6s --start-period=15s CMD ["/bearerd", "healthcheck"]
ENTRYPOINT ["/bearerd"]
