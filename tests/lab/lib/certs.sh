# shellcheck shell=bash
# A certificate authority for the tests, and certificates as webpki wants them: version 3, the name
# in subjectAltName, the authority's basicConstraints critical. Keys are PKCS #8.

make_ca() {
    [[ -e $LAB_DIR/ca.pem ]] && return
    new_key "$LAB_DIR/ca.key"
    openssl req -x509 -new -key "$LAB_DIR/ca.key" -sha256 -days 3650 \
        -subj "/O=Comity test lab/CN=Comity test CA $(openssl rand -hex 4)" \
        -addext 'basicConstraints=critical,CA:TRUE' \
        -addext 'keyUsage=critical,keyCertSign,cRLSign' \
        -out "$LAB_DIR/ca.pem.new" 2>/dev/null
    mv "$LAB_DIR/ca.pem.new" "$LAB_DIR/ca.pem"
}

make_certs() {
    (($#)) || die "a certificate for which name?"
    local name
    for name in "$@"; do
        make_cert "$name" "$name"
        echo "$LAB_DIR/certs/$name.pem"
    done
}

# make_cert FILE NAME..: one certificate for all the names and addresses. Kept if it is there.
make_cert() (
    file=$1
    shift
    [[ $file =~ ^[A-Za-z0-9._-]+$ && $file != .* ]] || die "not a name for a certificate: $file"
    make_lab_dir
    lock certs
    make_ca
    cd "$LAB_DIR/certs"
    [[ -e $file.pem && -e $file.key ]] && exit

    alternatives=
    for name in "$@"; do
        if [[ $name =~ ^[0-9.]+$ || $name == *:* ]]; then
            alternatives+=,IP:$name
        else
            alternatives+=,DNS:$name
        fi
    done
    new_key "$file.key"
    openssl req -new -key "$file.key" -subj "/CN=$file" -out "$file.csr" 2>/dev/null
    openssl x509 -req -in "$file.csr" -CA "$LAB_DIR/ca.pem" -CAkey "$LAB_DIR/ca.key" \
        -set_serial "0x$(openssl rand -hex 15)" -sha256 -days 800 -out "$file.pem.new" 2>/dev/null \
        -extfile <(
            echo 'basicConstraints=critical,CA:FALSE'
            echo 'keyUsage=critical,digitalSignature'
            echo 'extendedKeyUsage=serverAuth,clientAuth'
            echo 'subjectKeyIdentifier=hash'
            echo 'authorityKeyIdentifier=keyid'
            echo "subjectAltName=${alternatives#,}"
        )
    rm "$file.csr"
    mv "$file.pem.new" "$file.pem"
)

new_key() {
    openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$1" 2>/dev/null
}
