#!/bin/sh
# certificates.sh DIR: what the tests of mutual TLS need, made afresh in DIR by openssl, each NAME.pem with NAME.key:
#   ca, other-ca                 two authorities
#   server                       of ca, for localhost, 127.0.0.1 and ::1
#   elsewhere, server-expired    of ca, for another host; for this one, until yesterday
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

# NAME AUTHORITY DAYS HOSTS
certificate() {
  key "$1"
  openssl req -new -key "$1.key" -subj "/CN=$1" -out "$1.csr"
  printf 'subjectAltName=%s\nbasicConstraints=CA:FALSE\n' "$4" >"$1.ext"
  openssl x509 -req -in "$1.csr" -CA "$2.pem" -CAkey "$2.key" -set_serial "$(date +%s%N)" -days "$3" -extfile "$1.ext" \
    -out "$1.pem" 2>/dev/null
  rm "$1.csr" "$1.ext"
}

here=DNS:localhost,IP:127.0.0.1,IP:::1
authority ca
authority other-ca
certificate server ca 30 $here
certificate elsewhere ca 30 DNS:elsewhere.example
certificate server-expired ca -1 $here
certificate client ca 30 DNS:client
certificate client-expired ca -1 DNS:client
certificate stranger other-ca 30 $here
