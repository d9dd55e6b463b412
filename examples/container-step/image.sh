#!/usr/bin/env bash
# Builds the image `tower-example/container-step` from nothing but one static binary. `DOCKER_HOST` says which engine it is for.
exec "$(dirname "$0")/../image.sh" container-step container-step "${1:-tower-example/container-step:latest}"
