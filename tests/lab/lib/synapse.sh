# shellcheck shell=bash
# Synapse, the Matrix homeserver, with sqlite and without federation, rate limits or costly passwords.

synapse_install() {
    local python
    [[ -e $SYNAPSE_VENV/complete ]] && return
    python=$(usable_python)
    mkdir -p "$CACHE_DIR"
    (
        flock 9
        [[ -e $SYNAPSE_VENV/complete ]] && exit
        say "installing Synapse $SYNAPSE_VERSION in $SYNAPSE_VENV"
        rm -rf "$SYNAPSE_VENV"
        "$python" -m venv "$SYNAPSE_VENV"
        retry "$SYNAPSE_VENV/bin/pip" install --quiet --disable-pip-version-check "matrix-synapse==$SYNAPSE_VERSION"
        touch "$SYNAPSE_VENV/complete"
    ) 9>"$CACHE_DIR/synapse.lock"
}

synapse_binary() { echo "$SYNAPSE_VENV/bin/python"; }
synapse_ports() { echo "$MATRIX_PORT"; }

synapse_configure() {
    local folder=$LAB_DIR/synapse
    mkdir -p "$folder/appservices" "$folder/media"
    [[ -e $folder/signing.key ]] || printf 'ed25519 lab %s\n' "$(openssl rand -base64 32 | tr -d '=\n')" >"$folder/signing.key"
    write_config "$folder/log.yaml" <<END
version: 1
disable_existing_loggers: false
formatters:
  lines: {format: '%(asctime)s %(levelname)s %(name)s %(message)s'}
handlers:
  stream: {class: logging.StreamHandler, formatter: lines, stream: ext://sys.stderr}
loggers:
  synapse.appservice: {level: INFO}
root: {level: WARNING, handlers: [stream]}
END
    write_config "$folder/homeserver.yaml" < <(synapse_config "$folder")
}

synapse_config() {
    local folder=$1 file files=
    for file in "$folder/appservices"/*.yaml; do
        [[ ! -e $file ]] || files+="'$file', "
    done
    cat <<END
server_name: $MATRIX_SERVER_NAME
public_baseurl: $MATRIX_URL/
listeners:
  - {port: $MATRIX_PORT, type: http, bind_addresses: ['$LAB_IP'], resources: [{names: [client]}]}
database: {name: sqlite3, args: {database: $folder/homeserver.db}}
log_config: $folder/log.yaml
media_store_path: $folder/media
signing_key_path: $folder/signing.key
macaroon_secret_key: lab-macaroon
form_secret: lab-form
report_stats: false

registration_shared_secret: $MATRIX_REGISTRATION_SECRET
enable_registration: true
enable_registration_without_verification: true
bcrypt_rounds: 4
presence: {enabled: false}
url_preview_enabled: false
max_upload_size: 100M
allow_public_rooms_without_auth: true

# No other homeserver, and nothing asked of one.
federation_domain_whitelist: []
trusted_key_servers: []
ip_range_whitelist: ['127.0.0.0/8']

rc_message: &high {per_second: 100000, burst_count: 100000}
rc_registration: *high
rc_registration_token_validity: *high
rc_login: {address: *high, account: *high, failed_attempts: *high}
rc_admin_redaction: *high
rc_joins: {local: *high, remote: *high}
rc_joins_per_room: *high
rc_3pid_validation: *high
rc_invites: {per_room: *high, per_user: *high, per_issuer: *high}
rc_third_party_invite: *high
rc_media_create: *high
rc_presence: {per_user: *high}
rc_delayed_event_mgmt: *high
rc_room_creation: *high
rc_reports: *high
rc_user_directory: *high
rc_profile: *high
rc_key_requests: *high
remote_media_download_burst_count: 10G
remote_media_download_per_second: 10G

app_service_config_files: [$files]
END
}

synapse_run() {
    # Its stdout and stderr are the log; without PYTHONUNBUFFERED they would come in blocks. Kills spare what the kernel has, so nothing is
    # proved by each of its commits waiting for the disk; that is most of what a message costs it.
    spawn synapse eatmydata env PYTHONUNBUFFERED=1 "$SYNAPSE_VENV/bin/python" -m synapse.app.homeserver -c "$LAB_DIR/synapse/homeserver.yaml"
}

synapse_ready() {
    probe_http "$MATRIX_URL/health"
}

# Accounts live as long as the database; their names are kept beside it.
synapse_prepare() {
    local user registered=$LAB_DIR/synapse/registered
    touch "$registered"
    for user in "$MATRIX_ADMIN" "${MATRIX_USERS[@]}"; do
        grep -qx "$user" "$registered" && continue
        synapse_register "$user"
        echo "$user" >>"$registered"
    done
}

# Synapse's own registration by shared secret: a nonce, and a MAC over nonce, name, password and role.
synapse_register() {
    local user=$1 admin=false role=notadmin nonce mac answer url=$MATRIX_URL/_synapse/admin/v1/register
    if [[ $user == "$MATRIX_ADMIN" ]]; then
        admin=true role=admin
    fi
    nonce=$(curl -sf --max-time 10 "$url" | sed -n 's/.*"nonce": *"\([0-9a-f]*\)".*/\1/p')
    mac=$(printf '%s\0%s\0%s\0%s' "$nonce" "$user" "$MATRIX_PASSWORD" "$role" \
        | openssl dgst -sha1 -hmac "$MATRIX_REGISTRATION_SECRET" | sed 's/.* //')
    answer=$(curl -s --max-time 10 "$url" -d "$(printf '{"nonce":"%s","username":"%s","password":"%s","admin":%s,"mac":"%s"}' \
        "$nonce" "$user" "$MATRIX_PASSWORD" "$admin" "$mac")")
    [[ $answer == *'"user_id"'* || $answer == *M_USER_IN_USE* ]] || fail_with_log synapse "does not register $user: $answer"
}
