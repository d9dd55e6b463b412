#!/usr/bin/env bash
# Builds the image `tower-example/technical` from nothing but one static binary. `DOCKER_HOST` says which engine it is for.
exec "$(dirname "$0")/../image.sh" mixed-strategies-technical technical "${1:-tower-example/technical:latest}"
