# Sourced by the other scripts: what is missing on this machine is installed, and a private copy of PostgreSQL is laid out.
#
# The copy is a folder of ours with the server's programs and its extension folder in it. PostgreSQL finds its files relative to
# its own programs, so the extension is installed there and nowhere else, and no server of the machine is touched.
#
#   PG_MAJOR      which PostgreSQL (15)
#   PG_CONFIG     set to the copy's pg_config
#   PG_BIN        set to the copy's programs
#   GUARD_CACHE   where the copy lives
#   GUARD_LOCALES set to a folder with a locale in which the copy's servers speak German
set -euo pipefail

PG_MAJOR=${PG_MAJOR:-15}
PROJECT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
if [ "$(id -u)" = 0 ]; then
  # PostgreSQL refuses to run as root, and its user cannot look into root's home.
  GUARD_CACHE=${GUARD_CACHE:-/var/cache/dragonfly_guard}
else
  GUARD_CACHE=${GUARD_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/dragonfly_guard}
fi
export PG_MAJOR GUARD_CACHE PGRX_HOME="$GUARD_CACHE/pgrx"
PGRX_VERSION=0.18.1

step() { printf '\n==> %s\n' "$*" >&2; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# Runs a program as somebody who may run PostgreSQL.
as_postgres() { if [ "$(id -u)" = 0 ]; then runuser -u postgres -- "$@"; else "$@"; fi; }

install_packages() {
  local missing=()
  for package in "$@"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  step "installing Debian packages: ${missing[*]}"
  as_root apt-get update -qq
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}

# What building takes.
install_build_packages() { install_packages gcc libc6-dev make pkg-config libssl-dev libclang-dev; }

# What a private copy of PostgreSQL is made of. Debian would start a server of its own with the package: the demo and the tests do
# not use it, so it is not made.
install_server_packages() {
  if ! [ -d "/usr/lib/postgresql/$PG_MAJOR/bin" ] && ! [ -e /etc/postgresql-common/createcluster.conf ]; then
    as_root mkdir -p /etc/postgresql-common
    echo 'create_main_cluster = false' | as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
  fi
  # pgaudit is a neighbour that the tests live beside; a test runs on a server with translated messages.
  install_packages "postgresql-$PG_MAJOR" "postgresql-server-dev-$PG_MAJOR" "postgresql-$PG_MAJOR-pgaudit" locales sudo
}

install_cargo_pgrx() {
  if [ "$(cargo pgrx --version 2>/dev/null)" != "cargo-pgrx $PGRX_VERSION" ]; then
    step "installing cargo-pgrx $PGRX_VERSION (once, about three minutes)"
    cargo install --quiet --locked cargo-pgrx --version "=$PGRX_VERSION"
  fi
}

# The private copy; made again when the machine's PostgreSQL has been updated.
stage_postgres() {
  local from=/usr/lib/postgresql/$PG_MAJOR stage=$GUARD_CACHE/pg$PG_MAJOR version
  version=$("$from/bin/postgres" --version)
  PG_BIN=$stage/usr/lib/postgresql/$PG_MAJOR/bin
  PG_CONFIG=$PG_BIN/pg_config
  export PG_BIN PG_CONFIG
  if [ "$(cat "$stage/version" 2>/dev/null)" != "$version" ] || ! [ -e "$stage/usr/lib/postgresql/$PG_MAJOR/lib/pgaudit.so" ]; then
    step "laying out a private copy of $version in $stage"
    rm -rf "$stage"
    mkdir -p "$stage/usr/lib/postgresql" "$stage/usr/share/postgresql" "$stage/usr/include" "$stage/clusters"
    cp -a "$from" "$stage/usr/lib/postgresql/"
    cp -aL "/usr/share/postgresql/$PG_MAJOR" "$stage/usr/share/postgresql/"
    ln -s /usr/include/postgresql "$stage/usr/include/postgresql"
    # A cluster that nobody has used, to start others from: a copy takes a fraction of the time of initdb.
    [ "$(id -u)" != 0 ] || chown postgres: "$stage/clusters"
    as_postgres "$PG_BIN/initdb" -D "$stage/clusters/template" -U root_su -A trust -E UTF8 --locale=C.UTF-8 --no-sync >/dev/null
    printf '%s' "$version" > "$stage/version"
  fi
  export GUARD_CLUSTERS=$stage/clusters
  stage_german "$stage/usr/share/locale"
  mkdir -p "$PGRX_HOME"
  local config
  config=$(printf '[configs]\npg%s = "%s"' "$PG_MAJOR" "$PG_CONFIG")
  # Written only where it changes: pgrx builds its bindings anew for a newer file.
  [ "$(cat "$PGRX_HOME/config.toml" 2>/dev/null)" = "$config" ] || printf '%s\n' "$config" > "$PGRX_HOME/config.toml"
}

# The German translation of the server's messages, and of no client program's; and a locale of the C library to select
# it, in a folder of its own: the machine's locales stay as they are.
stage_german() {
  local messages=$1/de/LC_MESSAGES catalog
  export GUARD_LOCALES=$GUARD_CACHE/locales
  mkdir -p "$messages" "$GUARD_LOCALES"
  for catalog in "postgres-$PG_MAJOR.mo" "plpgsql-$PG_MAJOR.mo"; do
    cp -u "/usr/share/locale/de/LC_MESSAGES/$catalog" "$messages/"
  done
  [ -d "$GUARD_LOCALES/de_DE.UTF-8" ] || localedef --no-archive -i de_DE -f UTF-8 "$GUARD_LOCALES/de_DE.UTF-8"
}

# Builds the extension and installs it into the private copy. Everything it prints goes to standard error.
install_extension() {
  step "building the extension for PostgreSQL $PG_MAJOR and installing it into the private copy"
  (cd "$PROJECT" && cargo pgrx install --pg-config "$PG_CONFIG" --no-default-features --features "pg$PG_MAJOR" "$@") >&2
}

prepare() {
  mkdir -p "$GUARD_CACHE" 2>/dev/null || as_root mkdir -p "$GUARD_CACHE"
  install_build_packages
  install_server_packages
  install_cargo_pgrx
  stage_postgres
}
