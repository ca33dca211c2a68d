//! The OCS API but for shares: envelope, capabilities, the user, the password policy.

use serde_json::{Value, json};

use super::http::{Answer, Call};
use super::login::{self, Login};
use super::settings::Version;
use super::shares;
use super::tree::{State, random};

/// Whether JSON was asked for.
pub(super) fn wants_json(call: &Call) -> bool {
    match call.asked("format") {
        Some(format) => format == "json",
        None => call.header("accept").is_some_and(|accept| accept.contains("application/json")),
    }
}

/// `ocs.meta` and `ocs.data`.
pub(super) fn envelope(call: &Call, status: u16, code: u16, message: &str, data: Value) -> Answer {
    if call.path.starts_with("/ocs/v1.php") && !matches!(status, 401 | 429) {
        let code = if code == 200 { 100 } else { code };
        return envelope_as(wants_json(call), 200, code, message, data);
    }
    envelope_as(wants_json(call), status, code, message, data)
}

/// The same in the format given.
pub(super) fn envelope_as(json: bool, status: u16, code: u16, message: &str, data: Value) -> Answer {
    let word = if matches!(code, 100 | 200) { "ok" } else { "failure" };
    if json {
        let meta = json!({ "status": word, "statuscode": code, "message": message });
        return Answer::json(status, &json!({ "ocs": { "meta": meta, "data": data } }));
    }
    let mut text = format!(
        "<?xml version=\"1.0\"?>\n<ocs>\n <meta>\n  <status>{word}</status>\n  \
         <statuscode>{code}</statuscode>\n  <message>{}</message>\n </meta>\n",
        super::propfind::escape(message)
    );
    element(&mut text, "data", &data);
    text.push_str("</ocs>\n");
    Answer::text(status, "application/xml; charset=utf-8", text)
}

fn element(text: &mut String, name: &str, value: &Value) {
    match value {
        Value::Null => text.push_str(&format!("<{name}/>\n")),
        Value::Array(items) => {
            text.push_str(&format!("<{name}>"));
            items.iter().for_each(|item| element(text, "element", item));
            text.push_str(&format!("</{name}>\n"));
        }
        Value::Object(fields) => {
            text.push_str(&format!("<{name}>\n"));
            fields.iter().for_each(|(name, value)| element(text, name, value));
            text.push_str(&format!("</{name}>\n"));
        }
        Value::Bool(value) => text.push_str(&format!("<{name}>{}</{name}>\n", if *value { "1" } else { "" })),
        Value::String(value) => {
            text.push_str(&format!("<{name}>{}</{name}>\n", super::propfind::escape(value)));
        }
        Value::Number(value) => text.push_str(&format!("<{name}>{value}</{name}>\n")),
    }
}

/// 200 with data.
pub(super) fn ok(call: &Call, data: Value) -> Answer {
    envelope(call, 200, 200, "OK", data)
}

/// A refusal with the same number in both places.
pub(super) fn refuse(call: &Call, status: u16, message: &str) -> Answer {
    envelope(call, status, status, message, json!([]))
}

/// `status.php`, which needs no login and goes on during maintenance.
pub(super) fn status(state: &State) -> Answer {
    let status = json!({
        "installed": true,
        "maintenance": state.settings.maintenance,
        "needsDbUpgrade": false,
        "version": state.version.full_name(),
        "versionstring": state.version.name(),
        "edition": "",
        "productname": "Nextcloud",
        "extendedSupport": false,
    });
    Answer::json(200, &status)
}

/// What is below `/ocs/v2.php`.
pub(super) fn answer(state: &mut State, call: &Call, path: &str) -> Answer {
    if call.header("ocs-apirequest").is_none() {
        return Answer::json(412, &json!({ "message": "CSRF check failed" }));
    }
    let login = login::of(state, call);
    if path == "/cloud/capabilities" && matches!(login, Login::Nobody) {
        let data = capabilities(state, false);
        return ok(call, data);
    }
    let user = match login::of_ocs(state, call, &login) {
        Ok(user) => user,
        Err(refused) => return *refused,
    };
    if path.starts_with("/core/") && path.contains("apppassword") {
        return login::app_password(state, call, path, &login);
    }
    if let Some(rest) = path.strip_prefix("/apps/files_sharing/api/v1/shares") {
        return shares::answer(state, call, &user, rest);
    }
    if let Some(rest) = path.strip_prefix("/apps/files_downloadlimit/api/v1/") {
        return shares::download_limit(state, call, &user, rest);
    }
    match (call.method.as_str(), path) {
        ("GET", "/cloud/capabilities") => {
            let data = capabilities(state, true);
            ok(call, data)
        }
        ("GET", "/cloud/user") => {
            let data = who(state, &user);
            ok(call, data)
        }
        ("GET", "/apps/password_policy/api/v1/generate") if state.settings.policy_app => {
            let policy = &state.settings.policy;
            let end = if policy.special { "a9!B" } else { "a9B" };
            let password = format!("{}{end}", random(policy.min_length.max(10) - end.len()));
            ok(call, json!({ "password": password }))
        }
        ("POST", "/apps/password_policy/api/v1/validate") if state.settings.policy_app => {
            let fields = call.fields();
            let password = fields.iter().find(|(name, _)| name == "password").map_or("", |(_, value)| value);
            let data = match state.settings.policy.refusal(state.version, password) {
                None => json!({ "passed": true }),
                Some(reason) => json!({ "passed": false, "reason": reason }),
            };
            ok(call, data)
        }
        _ => envelope(call, 404, 998, "Invalid query, please check the syntax.", json!([])),
    }
}

fn capabilities(state: &mut State, known: bool) -> Value {
    let version = state.version;
    let base = state.believed_url();
    let delay = match login::recent_failures(state) {
        0 => 0,
        failures => (100 << failures.min(8)).min(25_000),
    };
    let mut all = serde_json::Map::new();
    all.insert("bruteforce".to_owned(), json!({ "delay": delay, "allow-listed": false }));
    all.insert("theming".to_owned(), json!({ "name": "Nextcloud", "url": base, "slogan": "" }));
    if known {
        all.insert("core".to_owned(), core(state));
        all.insert("files".to_owned(), files(state));
        all.insert("dav".to_owned(), dav(version));
        all.insert("files_sharing".to_owned(), sharing(state));
        if state.settings.policy_app {
            all.insert("password_policy".to_owned(), policy(state));
        }
        if version.personality().download_limit {
            let limit = if version >= Version::V31 {
                json!({ "enabled": true, "default-limit": -1 })
            } else {
                json!({ "enabled": true })
            };
            all.insert("downloadlimit".to_owned(), limit);
        }
    }
    let numbers: Vec<u32> = version.name().split('.').filter_map(|part| part.parse().ok()).collect();
    json!({
        "version": {
            "major": numbers[0], "minor": numbers[1], "micro": numbers[2],
            "string": version.name(), "edition": "", "extendedSupport": false,
        },
        "capabilities": all,
    })
}

fn core(state: &State) -> Value {
    let version = state.version;
    let mut core = json!({ "pollinterval": 60, "webdav-root": "remote.php/webdav", "reference-api": true });
    core["reference-regex"] = json!("(\\s|\\n|^)(https?:\\/\\/)(\\S+)(\\s|\\n|$)");
    if version >= Version::V29 {
        core["mod-rewrite-working"] = json!(true);
    }
    if version >= Version::V32 {
        core["user"] = json!({ "language": "", "locale": "", "timezone": state.time_zone().iana_name().unwrap_or("UTC") });
    }
    if version >= Version::V34 {
        core["can-create-app-token"] = json!(true);
    }
    core
}

fn files(state: &State) -> Value {
    let settings = &state.settings;
    let direct = format!("{}/ocs/v2.php/apps/files/api/v1/directEditing", state.believed_url());
    let mut files = json!({
        "bigfilechunking": true,
        "blacklisted_files": [".htaccess"],
        "directEditing": { "url": direct, "etag": "5b2f367cfe076ab42b79601036409c2e", "supportsFileId": true },
        "comments": true,
        "undelete": true,
        "versioning": true,
        "version_labeling": true,
        "version_deletion": true,
    });
    if state.version >= Version::V29 {
        let mut characters = vec!["\\".to_owned(), "/".to_owned()];
        characters.extend(settings.forbidden_characters.iter().map(ToString::to_string));
        files["forbidden_filename_characters"] = json!(characters);
    }
    if state.version >= Version::V31 {
        let mut extensions = vec![".filepart".to_owned(), ".part".to_owned()];
        extensions.extend(settings.forbidden_extensions.iter().cloned());
        files["$comment"] = json!("\"blacklisted_files\" is deprecated, use \"forbidden_filenames\" instead");
        files["forbidden_filenames"] = json!([".htaccess"]);
        files["forbidden_filename_basenames"] = json!(settings.forbidden_basenames);
        files["forbidden_filename_extensions"] = json!(extensions);
        files["chunked_upload"] = json!({ "max_size": settings.chunk_max_size, "max_parallel_count": 5 });
        files["file_conversions"] = json!([]);
        files["delete_from_trash"] = json!(settings.delete_from_trash);
    }
    if state.version >= Version::V32 {
        files["windows_compatible_filenames"] = json!(false);
    }
    if state.version >= Version::V34 {
        files["locking"] = json!("1.0");
        files["api-feature-lock-type"] = json!(true);
    }
    files
}

fn dav(version: Version) -> Value {
    let mut dav = json!({ "chunking": "1.0", "bulkupload": "1.0" });
    if version >= Version::V31 {
        dav["absence-supported"] = json!(true);
        dav["absence-replacement"] = json!(true);
    }
    if version >= Version::V32 {
        dav["public_shares_chunking"] = json!(version >= Version::V34);
    }
    if version >= Version::V34 {
        for each in ["creation_time", "upload_time", "last_activity"] {
            dav[format!("search_supports_{each}")] = json!(true);
        }
    }
    dav
}

fn sharing(state: &State) -> Value {
    let settings = &state.settings;
    let on = json!({ "enabled": true });
    let mut federation = json!({ "outgoing": true, "incoming": true });
    federation["expire_date"] = on.clone();
    federation["expire_date_supported"] = on.clone();
    let mut sharee = json!({ "query_lookup_default": false, "always_show_unique": true });
    if state.version >= Version::V34 {
        sharee["minSearchStringLength"] = json!(0);
    }
    let by_mail = json!({
        "enabled": settings.links_allowed || !settings.sharing_enabled,
        "send_password_by_mail": true,
        "upload_files_drop": on,
        "password": { "enabled": true, "enforced": settings.password_enforced },
        "expire_date": { "enabled": true, "enforced": settings.days_enforced },
    });
    let mut sharing = json!({
        "api_enabled": settings.sharing_enabled,
        "public": { "enabled": false },
        "user": { "send_mail": false },
        "resharing": settings.sharing_enabled,
        "federation": federation,
        "sharee": sharee,
        "sharebymail": by_mail,
    });
    if !settings.sharing_enabled {
        return sharing;
    }
    sharing["user"]["expire_date"] = on.clone();
    sharing["group_sharing"] = json!(true);
    sharing["group"] = json!({ "enabled": true, "expire_date": { "enabled": true } });
    sharing["default_permissions"] = json!(31);
    if state.version >= Version::V34 {
        sharing["exclude_reshare_from_edit"] = json!(false);
    }
    if settings.links_allowed {
        let expiry = match settings.default_days {
            None => json!({ "enabled": false }),
            Some(days) => json!({ "enabled": true, "days": days, "enforced": settings.days_enforced }),
        };
        sharing["public"] = json!({
            "enabled": true,
            "password": { "enforced": settings.password_enforced, "askForOptionalPassword": false },
            "expire_date": expiry,
            "multiple_links": true,
            "expire_date_internal": { "enabled": false },
            "expire_date_remote": { "enabled": false },
            "send_mail": false,
            "upload": true,
            "upload_files_drop": true,
        });
        if state.personality().custom_tokens {
            sharing["public"]["custom_tokens"] = json!(false);
        }
    }
    sharing
}

fn policy(state: &State) -> Value {
    let policy = &state.settings.policy;
    let base = format!("{}/ocs/v2.php/apps/password_policy/api/v1", state.believed_url());
    let mut all = json!({
        "minLength": policy.min_length,
        "enforceNonCommonPassword": policy.not_common,
        "enforceNumericCharacters": policy.numeric,
        "enforceSpecialCharacters": policy.special,
        "enforceUpperLowerCase": policy.upper_lower,
    });
    if state.version >= Version::V31 {
        let mut account = all.clone();
        account["enforceHaveIBeenPwned"] = json!(false);
        all["policies"] = json!({ "account": account });
    }
    all["api"] = json!({ "generate": format!("{base}/generate"), "validate": format!("{base}/validate") });
    all
}

fn who(state: &State, user: &str) -> Value {
    let used = state.size_of(user, "");
    let quota = match (state.settings.quota, state.room(user)) {
        (Some(quota), Some(free)) => {
            let relative = (used * 10_000).checked_div(quota).unwrap_or_default();
            json!({ "free": free, "used": used, "total": quota, "relative": relative as f64 / 100.0, "quota": quota })
        }
        // The free space of the disk, on the older ones.
        _ if state.version < Version::V31 => {
            let free = 80_097_255_424_u64;
            json!({ "free": free, "used": used, "total": free + used, "relative": 0, "quota": -3 })
        }
        _ => json!({ "free": -3, "used": used, "total": -3, "relative": 0, "quota": -3 }),
    };
    let name = &state.user(user).display_name;
    json!({
        "enabled": true,
        "id": user,
        "lastLogin": state.now() * 1000,
        "backend": "Database",
        "subadmin": [],
        "quota": quota,
        "email": null,
        "displayname": name,
        "display-name": name,
        "groups": [],
        "language": "en",
        "locale": "",
        "backendCapabilities": { "setDisplayName": true, "setPassword": true },
    })
}
