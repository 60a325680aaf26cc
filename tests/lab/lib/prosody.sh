# shellcheck shell=bash
# Prosody: accounts, a MUC service with an archive, uploads, and components for the gateways.

prosody_binary() { echo /usr/bin/prosody; }
prosody_ports() { printf '%s\n' "$XMPP_C2S_PORT" "$XMPP_COMPONENT_PORT" "$XMPP_HTTP_PORT"; }

prosody_configure() {
    make_cert "$XMPP_DOMAIN" "$XMPP_DOMAIN" "$XMPP_MUC" "$XMPP_UPLOAD" localhost "$LAB_IP"
    prosody_accounts
    write_config "$LAB_DIR/prosody/prosody.cfg.lua" <<END
run_as_root = true
data_path = "$LAB_DIR/prosody/data"
plugin_paths = { "/usr/lib/prosody/modules" }
log = { info = "*console" }

interfaces = { "$LAB_IP" }
local_interfaces = { "$LAB_IP" }
c2s_ports = { $XMPP_C2S_PORT }
component_ports = { $XMPP_COMPONENT_PORT }
component_interfaces = { "$LAB_IP" }
http_ports = { $XMPP_HTTP_PORT }
http_interfaces = { "$LAB_IP" }
http_external_url = "http://$LAB_IP:$XMPP_HTTP_PORT/"
http_default_host = "$XMPP_UPLOAD"
https_ports = { }
s2s_ports = { }

modules_enabled = {
    "roster", "saslauth", "tls", "disco", "posix", "ping", "time", "version", "uptime", "carbons", "smacks",
    "pep", "private", "blocklist", "vcard4", "vcard_legacy", "bookmarks", "mam", "csi_simple",
}
modules_disabled = { "s2s", "offline" }

authentication = "internal_plain"
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
storage = "internal"
storage_archive_item_limit = 1000000
max_archive_query_results = 250
archive_expires_after = "never"
muc_log_expires_after = "never"
c2s_stanza_size_limit = 1024 * 1024
component_stanza_size_limit = 1024 * 1024

VirtualHost "$XMPP_DOMAIN"
    ssl = { certificate = "$LAB_DIR/certs/$XMPP_DOMAIN.pem", key = "$LAB_DIR/certs/$XMPP_DOMAIN.key" }

Component "$XMPP_MUC" "muc"
    name = "Rooms"
    modules_enabled = { "muc_mam", "muc_moderation", "vcard_muc" }
    restrict_room_creation = false
    muc_room_locking = false
    muc_room_default_public = true
    muc_tombstones = false
    muc_room_cache_size = 10000

Component "$XMPP_UPLOAD" "http_file_share"
    name = "Uploads"
    http_file_share_access = { $(lua_strings "$XMPP_DOMAIN" "${XMPP_COMPONENTS[@]}") }
    http_file_share_daily_quota = 1024 * 1024 * 1024

$(printf 'Component "%s"\n    component_secret = "'"$XMPP_SECRET"'"\n' "${XMPP_COMPONENTS[@]}")
END
}

# Accounts are files; prosodyctl would write the same, half a second each.
prosody_accounts() {
    local user folder
    folder=$LAB_DIR/prosody/data/${XMPP_DOMAIN/./%2e}/accounts
    mkdir -p "$folder"
    for user in "${XMPP_USERS[@]}"; do
        [[ -e $folder/$user.dat ]] || printf 'return {\n\t["password"] = "%s";\n};\n' "$XMPP_PASSWORD" >"$folder/$user.dat"
    done
}

lua_strings() { printf '"%s", ' "$@"; }

prosody_run() {
    spawn prosody /usr/bin/prosody -F --config "$LAB_DIR/prosody/prosody.cfg.lua"
}

prosody_ready() {
    probe_xmpp "$XMPP_C2S_PORT" && port_open "$XMPP_COMPONENT_PORT"
}
