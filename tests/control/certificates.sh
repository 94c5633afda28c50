#!/bin/sh
# certificates.sh DIR: what the tests of mutual TLS need, made afresh in DIR by openssl, each NAME.pem with NAME.key:
#   ca, other-ca                 two authorities
#   server                       of ca, for localhost, 127.0.0.1 and ::1
#   elsewhere, server-expired    of ca, for another host; for this one, and past
#   client, client-expired       of ca
#   stranger                     of other-ca, for this host and for clients
set -eu
mkdir -p "$1"
cd "$1"

key() { openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"; }

authority() {
  key "$1"
  openssl req -x509 -new -key "$1.key" -subj "/CN=$1" -days 30 -out "$1.pem" \
    -addext basicConstraints=critical,CA:TRUE -addext keyUsage=critical,keyCertSign
}

valid="-days 30"
# A number of days below 0 is refused where an end can be named.
if openssl x509 -help 2>&1 | grep -q -e -not_after; then
  past="-not_before 20200101000000Z -not_after 20200201000000Z"
else
  past="-days -1"
fi

# NAME AUTHORITY TIME HOSTS
certificate() {
  key "$1"
  openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
  printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\n' "$4" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -set_serial "$(date +%s%N)" $3 -extfile "$1.ext" \
    -out "$1.pem" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

here=DNS:localhost,IP:127.0.0.1,IP:::1
authority ca
authority other-ca
certificate server ca "$valid" $here
certificate elsewhere ca "$valid" DNS:elsewhere.example
certificate server-expired ca "$past" $here
certificate client ca "$valid" DNS:client
certificate client-expired ca "$past" DNS:client
certificate stranger other-ca "$valid" $here
