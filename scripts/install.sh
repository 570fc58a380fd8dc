#!/bin/sh
# Installs edgelesspart, its manual pages, completions and, as root, the agent's service (not
# enabled).
#
# usage: ./install.sh [--prefix DIR]               from the folder of an unpacked tarball
#        install.sh --from URL|DIR [--prefix DIR]  fetches this machine's tarball from there and checks it
#
# --prefix   where to: /usr/local for root, else ~/.local
# --from     a folder, or a web address (curl or wget), with the tarballs and their SHA256SUMS
#
# DESTDIR, if set, is a folder that stands for / where files are written, as for who packages them.
set -eu
say() { echo "install.sh: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=${HOME:?}/.local; fi
from=
while [ $# -gt 0 ]; do
    case $1 in
    --prefix | --from)
        [ $# -ge 2 ] || fail "$1 needs a value"
        if [ "$1" = --prefix ]; then prefix=$2; else from=$2; fi
        shift 2
        ;;
    -h | --help)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0"
        exit
        ;;
    *)
        say "unknown argument $1; --help says what there is"
        exit 2
        ;;
    esac
done

case $prefix in
/*) ;;
*) prefix=$PWD/$prefix ;;
esac
while [ "$prefix" != "${prefix%/}" ]; do prefix=${prefix%/}; done
root=${DESTDIR-}

[ "$(uname -s)" = Linux ] || fail "these packages are for Linux; elsewhere build it with cargo"
case $(uname -m) in
x86_64 | amd64) target=x86_64-unknown-linux-gnu ;;
aarch64 | arm64) target=aarch64-unknown-linux-gnu ;;
*) fail "there is no package for $(uname -m); build it with cargo" ;;
esac
libc=$(getconf GNU_LIBC_VERSION 2>/dev/null | sed 's/^glibc //')
[ -n "$libc" ] || fail "these packages need glibc 2.28 or newer, and there is none here; build it with cargo"
[ "$(printf '2.28\n%s\n' "$libc" | sort -V | head -n 1)" = 2.28 ] ||
    fail "these packages need glibc 2.28 or newer, here is $libc; build it with cargo"

# Copies $1 of $from to standard output.
fetch() {
    case $from in
    https://*)
        # No redirect leads out of https: curl sees to it, and wget, which can't, follows none.
        if command -v curl >/dev/null; then
            curl --fail --silent --show-error --location --proto-redir =https "$from/$1"
        elif command -v wget >/dev/null; then
            wget --quiet --max-redirect=0 --output-document=- "$from/$1" ||
                fail "wget got no $1; where $from leads elsewhere, curl is needed"
        else
            fail "neither curl nor wget is here"
        fi
        ;;
    http://*)
        if command -v curl >/dev/null; then
            curl --fail --silent --show-error --location "$from/$1"
        elif command -v wget >/dev/null; then
            wget --quiet --output-document=- "$from/$1"
        else
            fail "neither curl nor wget is here"
        fi
        ;;
    *) cat "$from/$1" ;;
    esac
}

if [ -n "$from" ]; then
    from=${from%/}
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
    trap 'exit 1' HUP INT TERM
    fetch SHA256SUMS >"$work/SHA256SUMS" || fail "no SHA256SUMS at $from"
    name=$(sed -n "s/^[0-9a-f]\{64\}  \(edgelesspart-[^/]*-$target\.tar\.gz\)\$/\1/p" "$work/SHA256SUMS")
    [ "$(printf '%s\n' "$name" | grep -c .)" = 1 ] ||
        fail "$from/SHA256SUMS names ${name:-no tarball} for $target, where there should be one"
    fetch "$name" >"$work/$name" || fail "$from has no $name"
    (cd "$work" && grep -F "  $name" SHA256SUMS | sha256sum --check --quiet -) ||
        fail "$name is not what SHA256SUMS says: nothing is installed"
    tar -xzf "$work/$name" -C "$work"
    here=$work/${name%.tar.gz}
else
    here=$(cd "$(dirname "$0")" && pwd)
    [ -f "$here/edgelesspart" ] || fail "no program beside $0: say where the tarballs are with --from"
fi
"$here/edgelesspart" --version >/dev/null || fail "$here/edgelesspart doesn't run here"

# Writes standard input to the folder $2 as $3, with mode $1.
write() {
    mkdir -p "$root$2"
    # By a new name first: a program that runs is replaced, not written over.
    cat >"$root$2/.$3.new"
    chmod "$1" "$root$2/.$3.new"
    mv -f "$root$2/.$3.new" "$root$2/$3"
}

# Installs the package's file $2 into the folder $3 of the prefix as $4, with mode $1.
put() {
    write "$1" "$prefix/$3" "$4" <"$here/$2"
}

# Installs the unit of the agent's service where systemd reads units, so that it finds the program.
put_unit() {
    unit=edgelesspart-agent.service
    case $prefix in
    # Here systemd looks for units, and for a program without a path.
    /usr | /usr/local)
        put 644 $unit lib/systemd/system $unit
        return
        ;;
    # The unit says ProtectHome and PrivateTmp.
    /home | /home/* | /root | /root/* | /run/user | /run/user/* | /tmp | /tmp/* | /var/tmp | /var/tmp/*)
        say "the agent's service is not installed: it could not see a program below $prefix"
        return
        ;;
    *[!A-Za-z0-9/._+-]*)
        say "the agent's service is not installed: its unit can't name a program below $prefix as it is spelled"
        return
        ;;
    esac
    folder=/etc/systemd/system
    mark="# Written by install.sh, which writes it anew with each release."
    if [ -e "$root$folder/$unit" ] && ! grep -qxF "$mark" "$root$folder/$unit"; then
        say "$folder/$unit is not install.sh's and stays: its ExecStart must name $prefix/bin/edgelesspart"
        return
    fi
    text=$(sed "s|^ExecStart=edgelesspart |ExecStart=$prefix/bin/edgelesspart |" "$here/$unit")
    printf '%s\n%s\n' "$mark" "$text" | write 644 $folder $unit
    say "the agent's service is $folder/$unit, which goes before any unit of a package"
}
put 755 edgelesspart bin edgelesspart
for page in "$here"/man/*.1; do
    put 644 "man/${page##*/}" share/man/man1 "${page##*/}"
done
put 644 completions/edgelesspart.bash share/bash-completion/completions edgelesspart
put 644 completions/edgelesspart.zsh share/zsh/site-functions _edgelesspart
put 644 completions/edgelesspart.fish share/fish/vendor_completions.d edgelesspart.fish
# A service of the machine is root's to install.
[ "$(id -u)" != 0 ] || put_unit
say "$("$here/edgelesspart" --version) is in $prefix/bin"
case :$PATH: in
*":$prefix/bin:"*) ;;
*) say "$prefix/bin is not in PATH yet" ;;
esac
